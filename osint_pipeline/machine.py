"""What a machine says of itself: its spool, its disk, its clock, its uploads; measured every few seconds by its worker."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any, Self

from sqlalchemy import func, select

from osint_pipeline.pressure import Level, Load, Marks
from osint_pipeline.spooled import HELD_BACK, QUARANTINED
from osint_pipeline.uploads import last_upload
from osint_pipeline.workspace import Workspace
from storage.migrating import known
from storage.rows import WarcState
from storage.schema import events, warc_files

_TIME = re.compile(r"\d{4}-\d\d-\d\dT.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How far a machine's clock is ahead of what its source says; None: unknown."""

    offset_seconds: float | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What stands in the detail of a machine's row. Sizes in bytes; None: not known."""

    version: str = "unknown"
    schema: str = "unknown"
    concurrency: int = 0
    running: tuple[str, ...] = ()  # hosts that are crawled now
    spool_waiting_warcs: int = 0
    spool_waiting_bytes: int = 0
    spool_oldest_at: datetime | None = None
    spool_open_warcs: int = 0
    spool_level: str = "unknown"
    torn_files: int = 0
    disk_free_bytes: int | None = None
    disk_bytes: int | None = None
    held_back: int = 0  # WARCs that wait for a person
    last_upload_at: datetime | None = None  # that took everything
    last_upload_error: str | None = None
    upload_failing_since: datetime | None = None
    clock: Clock = Clock()
    stopped: bool = False  # it was ended in order, and is not missed

    def as_detail(self) -> dict[str, Any]:
        """Give it as JSON can hold it."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }

    @classmethod
    def of(cls, detail: Mapping[str, Any]) -> Self:
        """Read what another version may have written: what is unknown or unreadable is left out."""
        names = {one.name for one in fields(cls)}
        plain = {name: _read(value) for name, value in detail.items() if name in names - {"clock", "running"}}
        clock = detail.get("clock") or {}
        return cls(
            **plain,
            running=tuple(str(one) for one in detail.get("running") or ()),
            clock=Clock(offset_seconds=clock.get("offset_seconds"), source=clock.get("source")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One row of the table `machines`."""

    name: str
    worker: str
    started_at: datetime
    seen_at: datetime
    said: Description

    @classmethod
    def of(cls, row: Any) -> Self:
        """Make it of a row."""
        said = Description.of(row.detail)
        return cls(name=row.name, worker=row.worker, started_at=row.started_at, seen_at=row.seen_at, said=said)


def describe(
    workspace: Workspace,
    *,
    concurrency: int = 0,
    running: Sequence[str] = (),
    clock: Mapping[str, Any] | None = None,
    stopped: bool = False,
) -> dict[str, Any]:
    """Measure this machine: two short queries, one statvfs, two listings; the store is not asked.

    Raises DatabaseUnavailable, and SpoolNotOurs where the spool's disk is gone.
    """
    waiting_warcs, waiting_bytes, oldest_at = _waiting(workspace)
    spool, upload = workspace.spool, last_upload(workspace.folder)
    free, whole = spool.free_bytes()
    load = Load(waiting_bytes=waiting_bytes + spool.unsealed_bytes(), free_bytes=free, disk_bytes=whole)
    return Description(
        version=program_version(),
        schema=known()[-1],
        concurrency=concurrency,
        running=tuple(running),
        spool_waiting_warcs=waiting_warcs,
        spool_waiting_bytes=load.waiting_bytes,
        spool_oldest_at=oldest_at,
        spool_open_warcs=sum(1 for _ in spool.open_folder.glob("*.open")),
        spool_level=load.level(Marks.of(workspace.service), Level.FREE).value,
        torn_files=len(spool.torn()),
        disk_free_bytes=free,
        disk_bytes=whole,
        held_back=_held_back(workspace),
        last_upload_at=upload.succeeded_at,
        last_upload_error=upload.error,
        upload_failing_since=upload.failing_since,
        clock=Clock(**{name: (clock or {}).get(name) for name in ("offset_seconds", "source")}),
        stopped=stopped,
    ).as_detail()


@cache
def program_version() -> str:
    """Name this program's version; "unknown" where it was not installed."""
    try:
        return version_of("osint-pipeline")
    except PackageNotFoundError:
        return "unknown"


def _here(workspace: Workspace) -> Any:
    """What sealed WARCs wait in this machine's spool: their rows name the file."""
    states = warc_files.c.state.not_in((WarcState.PRESERVED, WarcState.OPEN))
    return states & func.starts_with(warc_files.c.path, f"{workspace.spool.sealed_folder}/")


def _waiting(workspace: Workspace) -> tuple[int, int, datetime | None]:
    size = func.coalesce(func.sum(warc_files.c.size_bytes), 0)
    wanted = select(func.count(), size, func.min(warc_files.c.sealed_at)).where(
        warc_files.c.state != WarcState.PRESERVED, _here(workspace)
    )
    with workspace.catalog.begin() as connection:
        count, total, oldest = connection.execute(wanted).one()
    return count, int(total), oldest


def _held_back(workspace: Workspace) -> int:
    told = select(events.c.id).where(events.c.subject == warc_files.c.name, events.c.kind.in_((HELD_BACK, QUARANTINED)))
    wanted = select(func.count()).where(warc_files.c.state != WarcState.PRESERVED, _here(workspace), told.exists())
    with workspace.catalog.begin() as connection:
        return connection.scalar(wanted) or 0


def _read(value: Any) -> Any:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return None
    return value
