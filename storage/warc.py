"""Writing WARC/1.1 files: open, append, sync, seal. Bytes go in as they crossed the wire."""

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from uuid import UUID

from storage.digest import pieces
from storage.drafts import Draft, of_exchange, of_info, of_journal, of_resource
from storage.durable import is_full, space, sync_folder
from storage.errors import SpoolFull, StorageError
from storage.exchange import Block, Exchange, Original, RecordRef, Resource, Stored
from storage.http import PayloadDigest, payload_of
from storage.ids import new_id
from storage.manifest import WARC_SUFFIX, IndexWriter, RecordLog, SealedWarc
from storage.member import compress, compress_parts

__all__ = ["OPEN_SUFFIX", "BrokenWarc", "OpenWarc", "SealedWarc", "payload_of"]

OPEN_SUFFIX = ".open"


class BrokenWarc(StorageError):
    """This open WARC takes no more: the kernel failed to write or sync it. What was synced before stays good."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} takes no more records: {why}")
        self.path, self.why = path, why


class OpenWarc:
    """A WARC that is being written. Safe to use from several threads.

    It holds an exclusive flock on the file until it is sealed, index and manifest included: a file without a lock
    has no living writer. What append returned is durable once sync or seal came back.
    """

    def __init__(self, folder: Path, name: str, sealed: Path) -> None:
        self.name, self.file_name = name, name + WARC_SUFFIX
        self.path = folder / (self.file_name + OPEN_SUFFIX)
        self.warcinfo_id = new_id()  # the one that records appended now name
        self.synced_bytes = 0
        self._sealed_path = sealed / self.file_name
        self._size_bytes = 0
        self._first_id = self.warcinfo_id
        self.warcinfo_offset_bytes = 0
        self._digest = hashlib.sha256()
        self._log = RecordLog()
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._broken: str | None = None
        self._file = _create(self.path)

    @classmethod
    def create(cls, folder: Path, name: str, info: Mapping[str, str], *, sealed: Path | None = None) -> "OpenWarc":
        """Make <name>.warc.gz.open with its warcinfo record; `sealed` is the folder that it will be sealed into.

        Raises FileExistsError if the name is taken there or here, SpoolFull (and leaves nothing) if it does not fit.
        """
        if (sealed or folder).joinpath(name + WARC_SUFFIX).exists():
            raise FileExistsError(f"{name} was sealed before")
        warc = cls(folder, name, sealed or folder)
        try:
            warc._append([of_info(info, warc.warcinfo_id, warc.file_name)], None)
            sync_folder(folder)
        except BaseException:
            warc.path.unlink(missing_ok=True)
            warc.close()
            raise
        return warc

    @property
    def size_bytes(self) -> int:
        """Bytes appended so far, all of whole records."""
        return self._size_bytes

    def begin(self, info: Mapping[str, str]) -> None:
        """Write another warcinfo record: what is appended from now on is told by it. No append may be under way.

        Raises SpoolFull, and goes on with the one before.
        """
        warcinfo_id = new_id()
        ref = self._append([of_info(info, warcinfo_id, self.file_name)], None)
        self.warcinfo_id, self.warcinfo_offset_bytes = warcinfo_id, ref.offset_bytes

    def append(
        self, exchange: Exchange, original: Original | None = None, payload: PayloadDigest | None = None
    ) -> RecordRef:
        """Write an exchange: its response and request, a revisit and request where `original` has the same payload,
        or the request and the failure where no response came (a failure alone where nothing was sent).

        Returns the response's (request's, failure's) reference with the others in `concurrent`. `payload` is what
        payload_of answered. A Stored response is deleted once it is written. All of it is written or nothing:
        raises SpoolFull, after which later appends may go on.
        """
        if exchange.response is not None:
            payload = payload or payload_of(exchange)
        drafts = of_exchange(exchange, payload, original, self.warcinfo_id)
        return self._append(drafts, exchange.response)

    def append_resource(self, resource: Resource) -> RecordRef:
        """Write a resource record. A Stored body is deleted once it is written. Raises SpoolFull."""
        return self._append([of_resource(resource, self.warcinfo_id)], resource.body)

    def append_journal(self, entry: bytes, url: str, record_id: UUID) -> RecordRef:
        """Write a journal entry as a metadata record. Raises SpoolFull."""
        return self._append([of_journal(entry, url, record_id, self.warcinfo_id)], None)

    def sync(self) -> int:
        """Make durable what was appended before; answers how many bytes are (also in synced_bytes)."""
        with self._sync_lock:
            with self._lock:
                self._check()
                size = self._size_bytes
            if size > self.synced_bytes:
                self._sync()
                self.synced_bytes = size
            return size

    def seal(self, extra: Mapping[str, object] | None = None) -> SealedWarc:
        """Sync, take the name <name>.warc.gz, write the index and, last, the manifest with `extra` in it.

        The file takes no more. If SpoolFull is raised the WARC itself is safe; Spool.recover completes it.
        """
        with self._sync_lock, self._lock:
            self._check()
            try:
                self._sync()
                self.synced_bytes = self._size_bytes
                self.path.rename(self._sealed_path)
                sync_folder(self._sealed_path.parent)
                sync_folder(self.path.parent)
                with IndexWriter(self._sealed_path) as index:
                    for rows in self._log.chunks():
                        index.add(*rows)
                    return index.commit(self._digest.hexdigest(), self._size_bytes, self._first_id, extra or {})
            finally:
                self._close("it is sealed")

    def close(self) -> None:
        """Let go of the file as it stands, unsealed; Spool.recover seals it. May be called twice."""
        with self._sync_lock, self._lock:
            self._close("it is closed")

    def _close(self, why: str) -> None:
        self._broken = self._broken or why
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _check(self) -> None:
        if self._broken:
            raise BrokenWarc(str(self.path), self._broken)

    def _sync(self) -> None:
        try:
            with space(self.path):
                os.fsync(self._file)
        except (OSError, SpoolFull) as error:
            self._broken = (
                f"sync failed: {error}"  # the kernel may have dropped the pages: a second sync proves nothing
            )
            raise

    def _append(self, drafts: list[Draft], used: Block | None) -> RecordRef:
        encoded = [_encode(draft) for draft in drafts]  # in memory: outside the lock; stored: as it is written
        with self._lock:
            self._check()
            places = self._write(encoded)
            refs: list[RecordRef] = []
            for draft, (offset, length, sha256) in zip(reversed(drafts), reversed(places), strict=True):
                main = len(refs) + 1 == len(drafts)
                ref = RecordRef(
                    warc=self.file_name,
                    offset_bytes=offset,
                    length_bytes=length,
                    record_sha256=sha256,
                    concurrent=tuple(reversed(refs)) if main else (),
                    **draft.facts,
                )
                refs.append(ref)
            for draft, ref in zip(drafts, reversed(refs), strict=True):
                self._log.add(ref, draft.served_type)
        if isinstance(used, Stored):
            used.path.unlink(missing_ok=True)
        return refs[-1]

    def _write(self, encoded: list[Iterable[bytes]]) -> list[tuple[int, int, str]]:
        """Write members, all or none; answers offset, length and SHA-256 of each."""
        start, places, whole = self._size_bytes, [], self._digest.copy()
        at = needed = start
        try:
            for member in encoded:
                offset, digest = at, hashlib.sha256()
                for piece in member:
                    needed = at + len(piece)
                    _write_all(self._file, piece)
                    digest.update(piece)
                    whole.update(piece)
                    at += len(piece)
                places.append((offset, at - offset, digest.hexdigest()))
        except BaseException as error:
            self._cut(start)
            if isinstance(error, OSError) and is_full(error):
                raise SpoolFull(str(self.path), needed - start) from error
            raise
        self._size_bytes, self._digest = at, whole
        return places

    def _cut(self, size_bytes: int) -> None:
        try:
            os.ftruncate(self._file, size_bytes)
        except OSError as error:
            self._broken = f"cannot be cut back to its last whole record: {error}"


def _encode(draft: Draft) -> Iterable[bytes]:
    header = draft.header()
    if isinstance(draft.block, bytes):
        return (compress(header, draft.block, b"\r\n\r\n"),)
    return compress_parts(_stored_record(header, draft.block))


def _stored_record(header: bytes, block: Stored) -> Iterator[bytes]:
    yield header
    seen = 0
    for piece in pieces(block):
        seen += len(piece)
        yield piece
    if seen != block.length_bytes:
        raise ValueError(f"{block.path} holds {seen} bytes, not {block.length_bytes}")
    yield b"\r\n\r\n"


def _write_all(number: int, data: bytes) -> None:
    written = os.write(number, data)
    while written < len(data):
        written += os.write(number, memoryview(data)[written:])


def _create(path: Path) -> int:
    """Make a file that is not there yet and lock it. A recovery may take it in between: then it is made again."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(number, fcntl.LOCK_EX)
        if holds(number, path):
            return number
        os.close(number)


def holds(number: int, path: Path) -> bool:
    """Whether an open file is still the one that has this name."""
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False
