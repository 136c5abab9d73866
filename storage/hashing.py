"""A file that is hashed while it is read: in a thread of its own, as hashlib lets go of the interpreter's lock."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Self

_READ_BYTES = 1 << 20
_WORTH_BYTES = 64 << 10  # handing over a piece below this costs more than hashing it


class HashedFile:
    """Reads a file once, front to back; what was handed out is what is hashed."""

    def __init__(self, file: BinaryIO) -> None:
        self.size_bytes = 0
        self._file, self._sha256 = file, hashlib.sha256()
        self._lane = ThreadPoolExecutor(1, "sha256")
        self._running: Future[None] | None = None

    def read(self, size: int = -1) -> bytes:
        """Read the next bytes, at most `size`."""
        data = self._file.read(size)
        self.size_bytes += len(data)
        self._wait()
        if len(data) < _WORTH_BYTES:
            self._sha256.update(data)
        else:
            self._running = self._lane.submit(self._sha256.update, data)
        return data

    def rest(self) -> str:
        """Read to the end; the SHA-256 of the whole file, in hex."""
        while self.read(_READ_BYTES):
            pass
        self._wait()
        return self._sha256.hexdigest()

    def close(self) -> None:
        """End the thread; the file itself is its opener's."""
        self._lane.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self) -> None:
        if self._running:
            self._running.result()
            self._running = None
