"""How full the spool is: when a crawl slows, when it pauses, and what is brought to the store meanwhile."""

import threading
from dataclasses import dataclass
from enum import Enum
from typing import Self

from sqlalchemy import func, select

from osint_pipeline.workspace import Workspace
from settings.service import Service
from storage.errors import StorageError
from storage.rows import WarcState
from storage.schema import warc_files

FREE_SHARE_OF_DISK = 10  # no more than a tenth of a small disk is asked to stay free


class Level(Enum):
    """How a crawl goes."""

    FREE = "free"
    SLOW = "slow"  # above the low-water share: longer pauses, one request at once to a host
    FULL = "full"  # above the mark: no new request is sent until it has fallen below the low-water share


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The limits of a spool; 0 is none."""

    high_bytes: int
    free_bytes: int
    low_share: float

    @classmethod
    def of(cls, service: Service) -> Self:
        """Take them from the settings."""
        return cls(
            high_bytes=service.spool_high_bytes,
            free_bytes=service.spool_free_bytes,
            low_share=service.spool_low_share,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What waits in the spool for the store, and what its disk has left."""

    waiting_bytes: int
    free_bytes: int
    disk_bytes: int

    def needed_bytes(self, marks: Marks) -> int:
        """Tell how much of the disk has to stay free."""
        return min(marks.free_bytes, self.disk_bytes // FREE_SHARE_OF_DISK)

    def share(self, marks: Marks) -> float:
        """Tell how much of what is allowed is used; 1.0 is the mark."""
        waiting = self.waiting_bytes / marks.high_bytes if marks.high_bytes else 0.0
        needed = self.needed_bytes(marks)
        free = needed / max(self.free_bytes, 1) if needed else 0.0
        return max(waiting, free)

    def level(self, marks: Marks, before: Level) -> Level:
        """Judge the load; what is full stays so until the low-water share."""
        share = self.share(marks)
        if share >= 1 or (before is Level.FULL and share > marks.low_share):
            return Level.FULL
        return Level.SLOW if share > marks.low_share else Level.FREE

    def sentence(self, marks: Marks) -> str:
        """Say it with figures."""
        high = f" of {_megabytes(marks.high_bytes)}" if marks.high_bytes else ""
        needed = _megabytes(self.needed_bytes(marks))
        waiting, free = _megabytes(self.waiting_bytes), _megabytes(self.free_bytes)
        return f"{waiting}{high} wait for the store, {free} of the disk are free ({needed} must stay)"


def measure(workspace: Workspace) -> Load:
    """Look: one sum over the WARCs that are not preserved, the sizes of the open ones, one statvfs."""
    waiting = select(func.coalesce(func.sum(warc_files.c.size_bytes), 0)).where(
        warc_files.c.state != WarcState.PRESERVED, warc_files.c.state != WarcState.OPEN
    )
    with workspace.catalog.begin() as connection:
        sealed = int(connection.scalar(waiting) or 0)
    free, whole = workspace.spool.free_bytes()
    return Load(waiting_bytes=sealed + workspace.spool.unsealed_bytes(), free_bytes=free, disk_bytes=whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What one attempt to empty the spool came to; `why` is None where nothing stood in its way."""

    preserved: int
    released: int = 0
    why: str | None = None


def drain(workspace: Workspace, stop: threading.Event) -> Drained:
    """Bring sealed WARCs to the store until `stop` is set or the store fails, then delete what may go."""
    from osint_pipeline.preserve import upload
    from osint_pipeline.retention import clean

    preserved, why, released = 0, None, 0
    try:
        for one in upload(workspace):
            preserved, why = preserved + (not one.why), one.why or why
            if stop.is_set():
                break
        released = sum(one.released for one in clean(workspace))
    except StorageError as error:
        why = str(error)
    return Drained(preserved=preserved, released=released, why=why)


def _megabytes(count_bytes: int) -> str:
    return f"{count_bytes / 1e6:,.1f} MB"
