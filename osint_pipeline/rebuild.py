"""Makes the catalogue again from the store alone: manifests give the records, the journal in the WARCs gives the rest."""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from osint_pipeline.errors import UserError
from osint_pipeline.recovery import ALONE, begin_lost_run, run_of_info, what_there_is
from osint_pipeline.rereading import capture_again
from osint_pipeline.retrieve import Archive
from osint_pipeline.state import newest_state, restore
from osint_pipeline.workspace import Workspace
from osint_pipeline.written import stored_info, stored_runs
from storage.batches import commit_batch, unclosed_captures
from storage.catalog import Catalog
from storage.chapters import by_run
from storage.entries import skip_places, tell_entry
from storage.errors import DamagedWarc, StorageError
from storage.events import add_event
from storage.exchange import RecordRef, RecordType
from storage.journal import Entry, EntryKind, NoEntry, decode, is_journal, told_by
from storage.loading import load_records
from storage.manifest import MANIFEST_SUFFIX, WARC_SUFFIX, Manifest, read_manifest
from storage.objects import Found, ObjectMissing, RangeShort
from storage.rebuilding import begin_rebuilding, end_rebuilding, is_empty, rebuilding_since
from storage.records import open_warc, read_record
from storage.refs import ref_of
from storage.rows import Batch, RecordRow, WarcRow, WarcState, WrittenBy
from storage.runs import begun_run, end_run
from storage.schema import records
from storage.warc_files import warc_found

PREFIX = "v1/warc/"
_ROWS_AT_ONCE, _AHEAD = 2000, 16
T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Rebuilt:
    """What was made again. `troubles` are sentences: objects that could not be used, and why."""

    warcs: int = 0
    records: int = 0
    entries: int = 0
    captures_read_again: int = 0  # of WARCs without a journal (0.1.0)
    sources: int = 0
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Warc:
    """A WARC in the store: its manifest on this machine, its place there."""

    manifest: Manifest
    manifest_sha256: str
    key: str
    runs: Mapping[UUID, WrittenBy]  # by the warcinfo records that they begin with, in their order
    version_id: str | None

    @property
    def run(self) -> UUID:
        """The first of its runs."""
        return next(iter(self.runs.values())).run


@dataclass(frozen=True, slots=True)
class _Told:
    """A journal entry's place among all, and where it stands."""

    place: int
    kind: EntryKind
    key: str
    version_id: str | None
    ref: RecordRef


def rebuild(
    workspace: Workspace, *, read_back: bool = True, lock: bool = True, progress: Progress | None = None
) -> Rebuilt:
    """Fill an empty catalogue from the store. Raises UserError if it is not empty, StoreUnavailable.

    `read_back`: read every WARC to its end and compare its SHA-256, as preservation needs; without it they are
    called uploaded. What the spool alone holds is not told: `osint recover` does that afterwards.
    """
    catalog = workspace.catalog
    with ExitStack() as stack:
        if lock:  # against another rebuild, and a recovery
            stack.enter_context(catalog.alone(ALONE))
        if rebuilding_since(catalog) is None and not is_empty(catalog):
            raise UserError(
                "the catalogue is not empty",
                "name an empty database in OSINT_DATABASE_URL, or use `osint rebuild --check`",
            )
        begin_rebuilding(catalog)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=workspace.folder)))
        work = _Rebuilding(workspace, read_back, scratch, progress or _silent)
        work.sources()  # first: a run finds its source by these ids
        work.warcs()
        work.journal()
        work.before_the_journal()
        end_rebuilding(catalog)
    facts = {"warcs": work.done.warcs, "records": work.done.records, "entries": work.done.entries}
    add_event(catalog, "rebuilt", workspace.service.s3_bucket, None, facts)
    return work.done


class _Rebuilding:
    def __init__(self, workspace: Workspace, read_back: bool, scratch: Path, progress: Progress) -> None:
        self.workspace, self.read_back, self.scratch, self.progress = workspace, read_back, scratch, progress
        self.catalog, self.store, self.done = workspace.catalog, workspace.store, Rebuilt()
        self.told: list[_Told] = []
        self.without_journal: list[_Warc] = []
        self.names: set[str] = set()

    def warcs(self) -> None:
        """Read every manifest; write the rows of its WARC and records, and note its journal entries."""
        found = {one.key: one for one in self.store.list(PREFIX)}
        manifests = sorted(key for key in found if key.endswith(MANIFEST_SUFFIX))
        committed = {key.removesuffix(MANIFEST_SUFFIX) + WARC_SUFFIX for key in manifests}
        for key in sorted(found.keys() - committed):
            if key.endswith(WARC_SUFFIX):
                self.done.troubles.append(f"{key} has no manifest: its upload was never finished")
        fetched = ahead(lambda key: self._fetch(key, found), manifests)
        for number, (key, warc) in enumerate(zip(manifests, fetched, strict=True)):
            self.progress("manifests", number, len(manifests))
            if isinstance(warc, str):
                self.done.troubles.append(f"{key}: {warc}")
                continue
            if warc.manifest.name in self.names:
                self.done.troubles.append(f"{key}: a second WARC of this name; the first by key is used")
                continue
            self.names.add(warc.manifest.name)
            try:
                self._tell_of(warc)
            except (DamagedWarc, DBAPIError) as error:
                self.done.troubles.append(f"{key}: {_short(error)}")

    def _fetch(self, key: str, found: dict[str, Found]) -> _Warc | str:
        """Bring a manifest here, and prove the WARC that it commits; a sentence where that cannot be done."""
        warc = key.removesuffix(MANIFEST_SUFFIX) + WARC_SUFFIX
        if warc not in found:
            return "its WARC is missing"
        path, digest = self.scratch / hashlib.sha256(key.encode()).hexdigest(), hashlib.sha256()
        try:
            with path.open("wb") as file:
                for data in self.store.read(key):
                    digest.update(data)
                    file.write(data)
            manifest = read_manifest(path)
            there = self.store.head(warc)
            version = there.version_id if there else None
            if there is None or there.size_bytes != manifest.size_bytes:
                return f"its WARC has {there.size_bytes if there else 0} bytes, not {manifest.size_bytes}"
            if self.read_back and (got := self.store.sha256_of(warc, version)) != manifest.sha256:
                return f"its WARC has sha256 {got}, not {manifest.sha256}"
            runs = stored_runs(self.store, manifest, warc)
        except DamagedWarc as error:
            return error.why
        except (ObjectMissing, RangeShort) as error:
            return str(error)
        return _Warc(manifest, digest.hexdigest(), warc, runs, version)

    def _tell_of(self, warc: _Warc) -> None:
        rows, journal = 0, False
        refs = by_run(self._refs(warc), {info: one.run for info, one in warc.runs.items()}, warc.run)
        while some := list(islice(refs, _ROWS_AT_ONCE)):
            for ref in (ref for ref, _ in some if is_journal(ref)):
                journal = True
                try:
                    _, kind, place = told_by(ref.url)
                    self.told.append(_Told(place, kind, warc.key, warc.version_id, ref))
                except NoEntry as error:
                    self.done.troubles.append(f"{warc.key} at byte {ref.offset_bytes}: {error}")
            batch = tuple(
                RecordRow(ref=ref, run_id=run, capture_id=ref.capture)
                for ref, run in some
                if ref.type is not RecordType.WARCINFO and not is_journal(ref)
            )
            commit_batch(self.catalog, Batch(records=batch))
            rows += len(batch)
        state = WarcState.PRESERVED if self.read_back else WarcState.UPLOADED
        warc_found(self.catalog, _warc_row(warc, state), tuple(warc.runs.values()))
        self.done.warcs, self.done.records = self.done.warcs + 1, self.done.records + rows
        if journal:
            warc.manifest.path.unlink()
        else:
            self.without_journal.append(warc)

    def _refs(self, warc: _Warc) -> Iterator[RecordRef]:
        """Yield a WARC's records as its manifest says; those of 0.1.0 name no captures, so the WARC itself is read."""
        if warc.manifest.sealed_at is not None:
            yield from warc.manifest.records()
            return
        path = self.scratch / warc.manifest.name
        with path.open("wb") as file:
            file.writelines(self.store.read(warc.key, warc.version_id))
        with open_warc(path) as reader:
            while streamed := reader.next():
                yield ref_of(streamed, warc.manifest.name)[0]
        path.unlink()

    def journal(self) -> None:
        """Tell every entry in the order of the places; one that was told late has the place of its telling."""
        late: dict[UUID, int] = {}
        for told, entry in self._entries([one for one in self.told if one.kind is EntryKind.REPLAY]):
            if entry and entry.replays:
                late[entry.replays] = max(told.place, late.get(entry.replays, 0))
        ordered = sorted(self.told, key=lambda told: (late.get(told.ref.record_id, told.place), told.place))
        for number, (told, entry) in enumerate(self._entries(ordered)):
            self.progress("journal", number, len(ordered))
            if entry is None:
                continue
            try:
                tell_entry(self.catalog, entry, told.ref.record_id, place=late.get(told.ref.record_id))
                self.done.entries += 1
            except DBAPIError as error:  # what it refers to was lost: the others must not be lost with it
                self.done.troubles.append(f"{told.key} at byte {told.ref.offset_bytes}: {_short(error)}")
        if ordered:
            skip_places(self.catalog, max(told.place for told in ordered))

    def _entries(self, wanted: list[_Told]) -> Iterator[tuple[_Told, Entry | None]]:
        """Read entries from the store, several ahead; None for one that is not as its manifest says."""
        for told, entry in zip(wanted, ahead(self._entry, wanted), strict=True):
            if isinstance(entry, str):
                self.done.troubles.append(f"{told.key} at byte {told.ref.offset_bytes}: {entry}")
            yield told, None if isinstance(entry, str) else entry

    def _entry(self, told: _Told) -> Entry | str:
        ref = told.ref
        try:
            member = self.store.read_range(told.key, ref.offset_bytes, ref.length_bytes, told.version_id)
        except (ObjectMissing, RangeShort) as error:
            return str(error)
        if hashlib.sha256(member).hexdigest() != ref.record_sha256:
            return "the journal entry does not have its digest"
        try:
            return decode(read_record(member).block)
        except (DamagedWarc, NoEntry) as error:
            return str(error)

    def before_the_journal(self) -> None:
        """Make the captures again of WARCs that hold no journal, read with today's parsers."""
        archive = Archive(self.workspace)
        for number, warc in enumerate(self.without_journal):
            self.progress("WARCs without a journal", number, len(self.without_journal))
            begun = begun_run(self.catalog, warc.run)
            if begun is None:
                run, source = run_of_info(warc.run, self._first_info(warc), _when(warc.manifest))
                run, source = begin_lost_run(self.catalog, run, source)
            else:
                run, source = begun
            for capture in unclosed_captures(self.catalog, run.id):
                with self.catalog.begin() as connection:
                    refs = load_records(connection, records.c.capture_id == capture)
                commit_batch(
                    self.catalog,
                    capture_again(archive, refs, id_=capture, run=run.id, source=source.id, spider=source.spider),
                )
                self.done.captures_read_again += 1
            end = what_there_is(self.workspace, run.id, "made again from WARCs without a journal (0.1.0)")
            end_run(self.catalog, run.id, end)

    def _first_info(self, warc: _Warc) -> dict[str, str]:
        return next((stored_info(self.store, ref, warc.key) for ref in islice(warc.manifest.records(), 1)), {})

    def sources(self) -> None:
        """Write sources, watches and lists as the newest signed state has them; those that no run ever visited are among them."""
        try:
            state = newest_state(self.workspace)
        except StorageError as error:
            self.done.troubles.append(str(error))
            return
        if state is None:
            return
        self.done.troubles += state.doubts
        restore(self.catalog, state)
        self.done.sources = len(state.sources)


def ahead(work: Callable[[T], R], wanted: Iterable[T]) -> Iterator[R]:
    """Do work for each in its order, some ahead in threads; in bounded memory."""
    left = iter(wanted)
    with ThreadPoolExecutor(8, "rebuild") as pool:
        running = [pool.submit(work, one) for one in islice(left, _AHEAD)]
        try:
            while running:
                first, *running = running
                yield first.result()
                running += [pool.submit(work, one) for one in islice(left, 1)]
        finally:
            for one in running:
                one.cancel()


@contextmanager
def beside(workspace: Workspace, catalog: Catalog) -> Iterator[Workspace]:
    """Work with another catalogue on the same spool and store."""
    yield Workspace(workspace.service, _catalog=catalog, _store=workspace.store, _spool=workspace.spool)


def _when(manifest: Manifest) -> datetime:
    for ref in islice(manifest.records(), 1):
        return datetime.fromisoformat(ref.date)
    return datetime.now(UTC)


def _warc_row(warc: _Warc, state: WarcState) -> WarcRow:
    manifest = warc.manifest
    return WarcRow(
        name=manifest.name,
        run_id=warc.run,
        state=state,
        key=warc.key,
        size_bytes=manifest.size_bytes,
        sha256=manifest.sha256,
        records=manifest.record_count,
        sealed_at=manifest.sealed_at or _when(manifest),
        preserved_at=datetime.now(UTC) if state is WarcState.PRESERVED else None,
        version_id=warc.version_id,
        manifest_sha256=warc.manifest_sha256,
    )


def _short(error: BaseException) -> str:
    if isinstance(error, DamagedWarc):
        return error.why
    return " ".join(str(getattr(error, "orig", error)).split())[:300]


def _silent(what: str, done: int, of: int) -> None:
    """Say nothing."""
