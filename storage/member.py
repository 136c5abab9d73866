"""Gzip members: one WARC record each, so that a part of the file can be read on its own (ISO 28500:2017 D.2)."""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from storage.errors import DamagedWarc

try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # no wheel for this machine; zlib writes the same format at a third of the speed
    igzip_lib = isal_zlib = None  # type: ignore[assignment]

LEVEL = 1  # bodies mostly come compressed; higher levels cost three times as much for 2 % (measured)
_zlib = isal_zlib or zlib
_crc32 = _zlib.crc32
_SAMPLE_BYTES = 2 << 10
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no time, no name, unknown system (RFC 1952 2.3)
_STORED_BLOCK = struct.Struct("<BHH")
_TRAILER = struct.Struct("<II")
_READ_BYTES = 1 << 20
_FEED_BYTES = 128 << 10
_OUT_BYTES = 1 << 20
_ERRORS: tuple[type[Exception], ...] = (zlib.error, *((isal_zlib.error,) if isal_zlib else ()))
_UNKNOWN_FLAGS = 0xE0
GZIP_MAGIC = b"\x1f\x8b\x08"
GZIP_HEADER_BYTES = 10


def compress(head: bytes, body: bytes, tail: bytes = b"") -> bytes:
    """Make one gzip member, without a time stamp, so that equal bytes give an equal member.

    A body that does not compress (most come compressed) is stored as it is: a tenth of the time.
    """
    if is_dense(body):
        return _stored(head, body, tail)
    data = b"".join((head, body, tail))
    if igzip_lib is not None:
        return igzip_lib.compress(data, LEVEL, igzip_lib.COMP_GZIP, igzip_lib.MEM_LEVEL_LARGE)
    return zlib.compress(data, LEVEL, 31)


def is_dense(body: bytes) -> bool:
    """Whether a sample from the middle of at least 4 KiB does not compress."""
    if len(body) < 2 * _SAMPLE_BYTES:
        return False
    middle = len(body) // 2
    return len(_deflate(body[middle : middle + _SAMPLE_BYTES], zlib.Z_FINISH)) > _SAMPLE_BYTES * 0.97


def _stored(head: bytes, body: bytes, tail: bytes) -> bytes:
    """The head compressed, the body and tail in stored blocks (RFC 1951 3.2.4)."""
    data, sum32 = body + tail, _crc32(tail, _crc32(body, _crc32(head)))
    parts = [_GZIP_HEADER, _deflate(head, zlib.Z_SYNC_FLUSH)]
    for at in range(0, len(data), 0xFFFF):
        part = data[at : at + 0xFFFF]
        last = at + len(part) == len(data)
        parts += [_STORED_BLOCK.pack(last, len(part), len(part) ^ 0xFFFF), part]
    parts.append(_TRAILER.pack(sum32, (len(head) + len(data)) & 0xFFFFFFFF))
    return b"".join(parts)


def _deflate(data: bytes, flush: int) -> bytes:
    machine = _zlib.compressobj(LEVEL, zlib.DEFLATED, -15)
    return machine.compress(data) + machine.flush(flush)


def compress_parts(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Make one gzip member in pieces, in bounded memory."""
    machine = _zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    for part in parts:
        if piece := machine.compress(part):
            yield piece
    yield machine.flush()


class Readable(Protocol):
    """What a Source needs of a file."""

    def read(self, size: int = -1, /) -> bytes: ...


class Source:
    """A file read forward: hands out what was not taken yet, counts and (unless told not to) hashes what was."""

    def __init__(self, file: Readable, offset: int = 0, *, hashing: bool = True) -> None:
        self.offset = offset
        self.sha256 = hashlib.sha256()
        self._file, self._data, self._at, self._hashing = file, b"", 0, hashing

    def peek(self, least: int = 1) -> memoryview:
        """Show the next bytes, at most 128 KiB and, unless the file ends first, at least `least`."""
        while len(self._data) - self._at < least and (more := self._file.read(_READ_BYTES)):
            self._data, self._at = self._data[self._at :] + more, 0
        return memoryview(self._data)[self._at : self._at + _FEED_BYTES]

    def take(self, count: int) -> memoryview:
        """Pass over the next bytes, all of which peek has shown."""
        taken = memoryview(self._data)[self._at : self._at + count]
        if self._hashing:
            self.sha256.update(taken)
        self._at += count
        self.offset += count
        return taken


class Member:
    """One gzip member: its decoded bytes in pieces, and once these are read its length and SHA-256 in the file.

    `start` is its header without the optional fields (RFC 1952 2.3), shorter where the file ends.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.offset_bytes = source.offset
        self.start = bytes(source.peek(GZIP_HEADER_BYTES)[:GZIP_HEADER_BYTES])
        self._source, self._name = source, name
        self._digest = hashlib.sha256()
        self._machine = _zlib.decompressobj(31)
        self._broken: DamagedWarc | None = None
        if self.start[3:4] and self.start[3] & _UNKNOWN_FLAGS:  # isal reads on; RFC 1952 2.3.1.2 says not to
            raise DamagedWarc(name, self.offset_bytes, "gzip member is corrupt: unknown header flags set")

    def read(self) -> bytes:
        """Decode the next piece, at most 1 MiB; empty at the member's end. Raises DamagedWarc."""
        if self._broken:
            raise self._broken
        while not self._machine.eof:
            fed = self._source.peek()
            try:
                out = self._machine.decompress(fed, _OUT_BYTES)
            except _ERRORS as error:
                self._broken = DamagedWarc(self._name, self.offset_bytes, f"gzip member is corrupt: {error}")
                raise self._broken from error  # and again if asked again: isal would go on
            left = len(self._machine.unused_data) or len(self._machine.unconsumed_tail)
            self._digest.update(self._source.take(len(fed) - left))
            if out:
                return out
            if not fed and not self._machine.eof:
                raise DamagedWarc(self._name, self.offset_bytes, "the file ends inside a gzip member")
        return b""

    @property
    def length_bytes(self) -> int:
        return self._source.offset - self.offset_bytes

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def split_member(data: bytes) -> int:
    """Measure the gzip member at the start of data; 0 if it does not end there. Raises zlib.error if corrupt."""
    machine = zlib.decompressobj(31)
    at = 0
    while at < len(data) and not machine.eof:
        fed = memoryview(data)[at : at + _FEED_BYTES]
        machine.decompress(fed, _OUT_BYTES)
        at += len(fed) - (len(machine.unused_data) or len(machine.unconsumed_tail))
    return at if machine.eof else 0
