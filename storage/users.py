"""Who uses a server that is shared by our processes, so that its last user can stop it.

The kernel keeps the count: each user holds a shared flock, which goes with its process however that ends.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

_POLL_SECONDS = 0.02


class GateBusy(TimeoutError):
    """Another process was starting or stopping the server for longer than we wait."""

    def __init__(self, folder: Path, waited_seconds: float) -> None:
        super().__init__(f"{folder} was held by another process for {waited_seconds:g} seconds")
        self.folder, self.waited_seconds = folder, waited_seconds


class Users:
    """One user of the server kept in `folder`; two of these in one process count as two users.

    Inside `gate()` nobody else joins, leaves, starts or stops, so the order of calls is
    `with users.gate(): users.join(); start_unless_it_runs()` and `with users.gate(): users.leave() and stop_it()`.
    The files are never deleted: a lock on a deleted file would keep nobody out.
    Not to be shared between threads. The locks are not inherited by a process that is exec'ed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: int | None = None

    @contextmanager
    def gate(self, timeout_seconds: float = 60) -> Iterator[None]:
        """Be the only one who joins, leaves, starts or stops; raises GateBusy. Not to be nested."""
        lock = self._open("gate.lock")
        try:
            self._enter(lock, timeout_seconds)
            yield
        finally:
            os.close(lock)

    def join(self) -> None:
        """Count as a user from now until leave() or the end of this process; may be called twice."""
        if self._held is not None:
            return
        lock = self._open("users.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
        except BaseException:
            os.close(lock)
            raise
        self._held = lock

    def leave(self) -> bool:
        """Stop counting; True if nobody is left and nothing pins the server. May be called without a join()."""
        lock, self._held = self._held, None
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a forked child may share it: closing would not be enough
            os.close(lock)
        return not self.pinned and not self.in_use()

    def in_use(self) -> bool:
        """Whether anybody counts as a user, this one included; only inside gate() does the answer hold."""
        lock = self._open("users.lock")
        try:
            return not _try_lock(lock)
        finally:
            os.close(lock)

    def pin(self) -> None:
        """Keep the server when its last user goes, until unpin(); may be called twice."""
        os.close(self._open("pinned"))

    def unpin(self) -> None:
        """Let the last user stop the server again; may be called twice."""
        (self.folder / "pinned").unlink(missing_ok=True)

    @property
    def joined(self) -> bool:
        """Whether this one counts as a user."""
        return self._held is not None

    @property
    def pinned(self) -> bool:
        """Whether the server stays without users."""
        return (self.folder / "pinned").exists()

    def __enter__(self) -> Self:
        self.join()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.leave()

    def _open(self, name: str) -> int:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _enter(self, lock: int, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise GateBusy(self.folder, timeout_seconds)
            time.sleep(_POLL_SECONDS)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
