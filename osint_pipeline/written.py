"""What runs wrote into a WARC, read run by run: one that is sealed on this machine, or in the store."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from uuid import UUID

from storage.chapters import Chapter, by_run, chapters, info_of
from storage.errors import DamagedWarc
from storage.exchange import RecordRef, RecordType
from storage.journal import Entry, decode, is_journal
from storage.manifest import Manifest, SealedWarc, sealed_from
from storage.names import shared_host
from storage.objects import ObjectStore
from storage.records import open_warc, read_record
from storage.refs import ref_of
from storage.rows import WrittenBy

NOBODY = UUID(int=0)  # whose records stand in a WARC that names no run


class Written:
    """A sealed WARC and its runs, as its warcinfo records name them. Raises DamagedWarc, OSError, ValueError."""

    def __init__(self, path: Path) -> None:
        self.warc: SealedWarc = sealed_from(path)
        self.chapters: tuple[Chapter, ...] = chapters(path, self._all())
        self._run_of = {one.warcinfo: one.run or NOBODY for one in self.chapters}

    @property
    def runs(self) -> tuple[UUID, ...]:
        """The runs, in the order of their records."""
        return tuple(dict.fromkeys(self._run_of.values())) or (NOBODY,)

    def info(self, run: UUID) -> dict[str, str]:
        """Give the fields of a run's warcinfo record; empty where it has none."""
        return next((dict(one.info) for one in self.chapters if (one.run or NOBODY) == run), {})

    def records(self, run: UUID) -> Iterator[RecordRef]:
        """Yield the records of a run, in flat memory."""
        return (ref for ref, whose in by_run(self._all(), self._run_of, self.runs[0]) if whose == run)

    def entries(self, run: UUID) -> Iterator[RecordRef]:
        """Yield the journal entries of a run."""
        return filter(is_journal, self.records(run))

    def entry(self, ref: RecordRef) -> Entry:
        """Read a journal entry. Raises NoEntry."""
        with self.warc.path.open("rb") as file:
            file.seek(ref.offset_bytes)
            return decode(read_record(file.read(ref.length_bytes)).block)

    def _all(self) -> Iterator[RecordRef]:
        """Yield all records: as the manifest says, or read again where that is of 0.1.0 and names no captures."""
        if self.warc.sealed_at is not None:
            yield from self.warc.each_record()
            return
        with open_warc(self.warc.path) as reader:
            while streamed := reader.next():
                yield ref_of(streamed, self.warc.path.name)[0]


def readable(paths: Iterable[Path]) -> list[Written]:
    """Open sealed WARCs; those whose manifest is damaged are for `osint verify` to name."""
    found = []
    for path in paths:
        with suppress(DamagedWarc, OSError, ValueError):
            found.append(Written(path))
    return found


def stored_runs(store: ObjectStore, manifest: Manifest, key: str) -> dict[UUID, WrittenBy]:
    """Name the run of each warcinfo record of a WARC in the store: as the manifest says, else as the record does. Raises DamagedWarc."""
    told = manifest.extra.get("runs")
    if told is None and shared_host(manifest.name) is None:
        for ref in islice(manifest.records(), 1):
            run = manifest.extra.get("run") or stored_info(store, ref, key).get("run")
            return {ref.record_id: WrittenBy(_named(key, run))}
        raise DamagedWarc(key, 0, "it has no records")
    listed = told if isinstance(told, list) else []
    said = {str(one.get("warcinfo")): one.get("run") for one in listed if isinstance(one, dict)}
    found = {}
    for ref in manifest.records():
        if ref.type is RecordType.WARCINFO:
            run = said.get(str(ref.record_id)) or stored_info(store, ref, key).get("run")
            found[ref.record_id] = WrittenBy(_named(key, run), ref.offset_bytes)
    if not found:
        raise DamagedWarc(key, 0, "it has no warcinfo record")
    return found


def _named(key: str, run: object) -> UUID:
    try:
        return UUID(str(run))
    except ValueError as error:
        raise DamagedWarc(key, 0, f"neither its manifest nor its warcinfo names a run, but {run!r}") from error


def stored_info(store: ObjectStore, ref: RecordRef, key: str) -> dict[str, str]:
    """Read the fields of a warcinfo record of a WARC in the store."""
    return info_of(read_record(store.read_range(key, ref.offset_bytes, ref.length_bytes)).block)
