"""Which run each record of a WARC is of: a run's records stand behind its warcinfo record, up to the next one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from storage.exchange import RecordRef, RecordType
from storage.records import read_record
from storage.rows import WrittenBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A warcinfo record: the records behind it are of the run that it names (ISO 28500:2017 6.2)."""

    warcinfo: UUID
    offset_bytes: int
    info: Mapping[str, str]  # its fields

    @property
    def run(self) -> UUID | None:
        """The run; None where none is named. Raises ValueError for what is no UUID."""
        return UUID(self.info["run"]) if "run" in self.info else None


def chapters(path: Path, refs: Iterable[RecordRef]) -> tuple[Chapter, ...]:
    """Read the warcinfo records among the records of a WARC on this machine. Raises DamagedWarc."""
    found = []
    with path.open("rb") as file:
        for ref in refs:
            if ref.type is RecordType.WARCINFO:
                file.seek(ref.offset_bytes)
                block = read_record(file.read(ref.length_bytes)).block
                found.append(Chapter(warcinfo=ref.record_id, offset_bytes=ref.offset_bytes, info=info_of(block)))
    return tuple(found)


def by_run(refs: Iterable[RecordRef], runs: Mapping[UUID, UUID], first: UUID) -> Iterator[tuple[RecordRef, UUID]]:
    """Yield each record of a WARC, in the order of the file, with its run.

    `runs` are those of the warcinfo records by their ids; records behind none of these are of `first`.
    """
    run = first
    for ref in refs:
        if ref.type is RecordType.WARCINFO:
            run = runs.get(ref.record_id, run)
        yield ref, run


def told_runs(runs: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Say in a manifest which runs share its WARC, in their order; what is said of the only one stands by itself too.

    Each of `runs` holds "run", "source", "warcinfo" (the id of its record), "offset" (of that record, in bytes) and, where
    known, "configuration_sha256".
    """
    here = ("warcinfo", "offset")
    alone = {name: value for name, value in runs[0].items() if name not in here} if len(runs) == 1 else {}
    return {**alone, "runs": [dict(one) for one in runs]}


def runs_of(extra: Mapping[str, object]) -> tuple[WrittenBy, ...]:
    """Name the runs that a manifest's `extra` says wrote its WARC, in their order; none where it cannot be read."""
    told = extra.get("runs")
    try:
        if isinstance(told, list):
            found = {UUID(one["run"]): int(one["offset"]) for one in reversed(told)}
            return tuple(WrittenBy(run, at) for run, at in reversed(found.items()) if 0 <= at < 1 << 63)
        return (WrittenBy(UUID(str(extra["run"]))),)
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()


def info_of(block: bytes) -> dict[str, str]:
    """Read the fields of a warcinfo record's block."""
    return dict(line.partition(": ")[::2] for line in block.decode("utf-8", "replace").splitlines())
