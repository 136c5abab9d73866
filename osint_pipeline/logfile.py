"""A log file that several processes write to and any of them rotates: no line is lost, none is torn."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SharedFile(logging.Handler):
    """Appends each line with one write, and rotates to NAME.1, NAME.2 ...; both under a lock that all processes take.

    A file that another process rotated meanwhile is told by its inode, as logging.handlers.WatchedFileHandler does.
    """

    def __init__(self, path: Path, *, limit_bytes: int, keep: int) -> None:
        super().__init__()
        self.path, self.limit_bytes, self.keep = path, limit_bytes, keep
        path.parent.mkdir(parents=True, exist_ok=True)
        self._pid = self._file = self._lock = -1
        self._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; what cannot be written is told on standard error, as Python's own handlers do."""
        try:
            line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
            with self._alone():
                if os.fstat(self._file).st_size + len(line) > self.limit_bytes:
                    self._rotate()
                while line:
                    line = line[os.write(self._file, line) :]
        except Exception:  # noqa: BLE001 - logging's own way: a line that cannot be written stops nobody
            self.handleError(record)

    def close(self) -> None:
        """Close the file. May be called twice."""
        self.acquire()
        try:
            self._close()
        finally:
            self.release()
        super().close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other processes out, and have the file that bears the name now."""
        if self._pid != os.getpid():  # a fork shares its parent's lock: it needs one of its own
            self._open()
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            if not self._current():
                os.close(self._file)
                self._file = _append(self.path)
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _current(self) -> bool:
        try:
            named, ours = self.path.stat(), os.fstat(self._file)
        except FileNotFoundError:
            return False
        return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)

    def _rotate(self) -> None:
        if not os.fstat(self._file).st_size:
            return
        for number in range(self.keep, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        os.close(self._file)
        self._file = _append(self.path)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _open(self) -> None:
        self._close()
        self._file = _append(self.path)
        self._lock = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        self._pid = os.getpid()

    def _close(self) -> None:
        for number in (self._file, self._lock):
            if number >= 0:
                os.close(number)
        self._file = self._lock = self._pid = -1


def _append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
