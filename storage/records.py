"""Reading WARC files strictly, record by record, with offsets and lengths, in bounded memory."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from uuid import UUID

from storage.errors import DamagedWarc
from storage.exchange import RecordType
from storage.http import BadChunks, Head, dechunk, split, split_response
from storage.member import GZIP_MAGIC, Member, Readable, Source

HEADER_LIMIT_BYTES = 1 << 20
_VERSION = re.compile(r"WARC/(\d+\.\d+)")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Header:
    """The version and named fields of a record, in order, as written (folded lines joined by a space)."""

    version: str
    fields: tuple[tuple[str, str], ...]
    _first: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        first = {name.lower(): value for name, value in reversed(self.fields)}
        object.__setattr__(self, "_first", first)

    def get(self, name: str) -> str | None:
        """The first value of a field; None if there is none."""
        return self._first.get(name.lower())

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a field."""
        wanted = name.lower()
        return tuple(value for key, value in self.fields if key.lower() == wanted)

    @property
    def type(self) -> str:
        return self.get("WARC-Type") or ""

    @property
    def url(self) -> str:
        return self.get("WARC-Target-URI") or ""

    @property
    def date(self) -> str:
        return self.get("WARC-Date") or ""

    @property
    def record_id(self) -> UUID | None:
        """The record's UUID; None if it has none or another kind of identifier."""
        return uuid_of(self.get("WARC-Record-ID"))

    @property
    def is_http(self) -> bool:
        """Whether the block is an HTTP message."""
        return (self.get("Content-Type") or "").lower().startswith("application/http")


@dataclass(frozen=True, slots=True)
class Record:
    """A whole record in memory."""

    header: Header
    block: bytes


def uuid_of(text: str | None) -> UUID | None:
    """Read <urn:uuid:...>; None for anything else."""
    try:
        return UUID(text[10:-1]) if text and text.startswith("<urn:uuid:") and text.endswith(">") else None
    except ValueError:
        return None


class _Decoded:
    """Decoded bytes that can be read up to a mark or by count."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read, self._held = read, b""
        self.taken_bytes = 0

    def until(self, mark: bytes, limit: int) -> bytes | None:
        """Take bytes up to and with mark; None if it does not come within limit bytes."""
        while (end := self._held.find(mark, 0, limit)) < 0:
            if len(self._held) >= limit or not (more := self._read()):
                return None
            self._held += more
        return self.take(end + len(mark))

    def take(self, count: int) -> bytes:
        """Take at most count bytes; empty only at the end."""
        if not self._held:
            self._held = self._read()
        taken, self._held = self._held[:count], self._held[count:]
        self.taken_bytes += len(taken)
        return taken

    def exactly(self, count: int) -> bytes:
        """Take count bytes, fewer at the end."""
        out = b""
        while len(out) < count and (piece := self.take(count - len(out))):
            out += piece
        return out

    def ended(self) -> bool:
        """Whether nothing is left."""
        if not self._held:
            self._held = self._read()
        return not self._held


class StreamedRecord:
    """A record while it is read: the header is there, the block comes in pieces, its place is known at the end.

    `length_bytes` and `sha256` are of the gzip member as stored (of the record's bytes in an uncompressed file, without
    a SHA-256). `gzip_start` is the beginning of the member's header, empty in an uncompressed file.
    """

    def __init__(self, header: Header, offset_bytes: int, block_bytes: int, parts: Iterator[bytes]) -> None:
        self.header, self.offset_bytes, self.block_bytes = header, offset_bytes, block_bytes
        self.gzip_start = b""
        self.length_bytes = 0
        self.sha256: str | None = None
        self._parts = parts

    def pieces(self) -> Iterator[bytes]:
        """Yield what is left of the block in pieces; raises DamagedWarc if it is short or not followed by two newlines."""
        return self._parts

    def finish(self) -> None:
        """Pass over the rest of the block."""
        for _ in self._parts:
            pass


class WarcReader:
    """Iterates the records of a WARC from a file opened for reading bytes, gzip member per record or uncompressed.

    Raises DamagedWarc at the first thing that is no whole record. If the gzip layer is sound, `skip` goes on behind it.
    """

    def __init__(self, file: Readable, name: str, offset: int = 0, *, hashing: bool = True) -> None:
        self.name = name
        self.source = Source(file, offset, hashing=hashing)
        self.end_bytes = offset  # the end of the last whole record
        self.compressed = bytes(self.source.peek(len(GZIP_MAGIC))[: len(GZIP_MAGIC)]) == GZIP_MAGIC
        self._plain = None if self.compressed else _Decoded(self._read_plain)
        self._member: Member | None = None
        self._open: StreamedRecord | None = None

    def __iter__(self) -> Iterator[StreamedRecord]:
        while (record := self.next()) is not None:
            yield record

    def next(self) -> StreamedRecord | None:
        """Read the next record's header; None at the end of the file. What was left of the last record is passed over."""
        if self._open:
            self._open.finish()
        self._open = self._member = None
        if self._plain is None:
            if not self.source.peek():
                return None
            if bytes(self.source.peek(2)[:2]) != GZIP_MAGIC[:2]:
                raise DamagedWarc(self.name, self.source.offset, "bytes that are no gzip member")
            self._member = Member(self.source, self.name)
            self._open = self._start(_Decoded(self._member.read), self._member.offset_bytes)
            self._open.gzip_start = self._member.start
        elif not self._plain.ended():
            self._open = self._start(self._plain, self._plain.taken_bytes)
        return self._open

    def skip(self) -> bool:
        """After DamagedWarc: pass over the rest of the gzip member. False where that cannot be done."""
        self._open = None
        if self._member is None:
            return False
        try:
            while self._member.read():
                pass
        except DamagedWarc:
            return False
        return True

    def _read_plain(self) -> bytes:
        return bytes(self.source.take(len(self.source.peek())))

    def _start(self, data: _Decoded, offset: int) -> StreamedRecord:
        with self._at(offset):
            header = _read_header(data)
            text = header.get("Content-Length") or ""
            if not _LENGTH.fullmatch(text):
                raise ValueError(f"Content-Length is {text!r} (ISO 28500:2017 5.3)")
        record = StreamedRecord(header, offset, int(text), iter(()))
        record._parts = self._block(data, record)
        return record

    def _block(self, data: _Decoded, record: StreamedRecord) -> Iterator[bytes]:
        left = record.block_bytes
        while left:
            if not (piece := data.take(left)):
                raise DamagedWarc(self.name, record.offset_bytes, f"the block is {left} bytes short of Content-Length")
            left -= len(piece)
            yield piece
        with self._at(record.offset_bytes):
            if (tail := data.exactly(4)) != b"\r\n\r\n":
                raise ValueError(f"the block is followed by {tail!r}, not by two newlines (ISO 28500:2017 4)")
            if self._member and not data.ended():
                raise ValueError("a gzip member holds more than one record (ISO 28500:2017 D.2)")
        self._close(data, record)

    def _close(self, data: _Decoded, record: StreamedRecord) -> None:
        if self._member:
            record.length_bytes, record.sha256 = self._member.length_bytes, self._member.sha256
        else:
            record.length_bytes = data.taken_bytes - record.offset_bytes
        self.end_bytes = record.offset_bytes + record.length_bytes

    @contextmanager
    def _at(self, offset: int) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise DamagedWarc(self.name, offset, str(error)) from error


def _read_header(data: _Decoded) -> Header:
    head = data.until(b"\r\n\r\n", HEADER_LIMIT_BYTES)
    if head is None:
        raise ValueError("the record header does not end (ISO 28500:2017 4)")
    try:
        first, *lines = head[:-4].decode("utf-8").split("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError("the record header is not UTF-8 (ISO 28500:2017 4)") from error
    if not (version := _VERSION.fullmatch(first)):
        raise ValueError(f"{first[:40]!r} is no WARC version line (ISO 28500:2017 4)")
    return Header(version[1], tuple(_read_fields(lines)))


def _read_fields(lines: list[str]) -> Iterator[tuple[str, str]]:
    name, folded = "", list[str]()
    for line in lines:
        if line[:1] in (" ", "\t") and name:
            folded.append(line.strip())
            continue
        if name:
            yield name, " ".join(folded).lstrip()
        name, colon, value = line.partition(":")
        name, folded = name.rstrip(" \t"), [value.strip()]
        if not colon or not _NAME.fullmatch(name) or "\n" in line or "\r" in line:
            raise ValueError(f"{line[:60]!r} is no named field (ISO 28500:2017 4)")
    if name:
        yield name, " ".join(folded).lstrip()


@contextmanager
def open_warc(warc: Path | bytes, name: str | None = None) -> Iterator[WarcReader]:
    """Open a WARC, a file or bytes, for reading."""
    if isinstance(warc, bytes):
        yield WarcReader(BytesIO(warc), name or "bytes")
        return
    with warc.open("rb", buffering=0) as file:
        yield WarcReader(file, name or warc.name)


def read_record(member: bytes) -> Record:
    """Read the one record that a gzip member (or a bare record) holds. Raises DamagedWarc."""
    with open_warc(member, "record") as reader:
        if (streamed := reader.next()) is None:
            raise DamagedWarc("record", 0, "no bytes")
        record = Record(streamed.header, b"".join(streamed.pieces()))
        if reader.end_bytes != len(member):
            raise DamagedWarc("record", reader.end_bytes, "bytes after the record")
        return record


def head_of(record: Record) -> Head | None:
    """The HTTP head in a response, request or revisit record; None in others."""
    if not record.header.is_http:
        return None
    return split(record.block) if record.header.type == RecordType.REQUEST else split_response(record.block)


def payload(record: Record) -> bytes:
    """The payload of a record: the de-chunked HTTP body with its content coding left on, or the whole block.

    Empty for a revisit, whose payload lies in the record it refers to.
    """
    if record.header.type == RecordType.REVISIT:
        return b""
    head = head_of(record)
    body = record.block[len(head.raw) :] if head else record.block
    if head and head.chunked:
        try:
            return b"".join(dechunk((body,)))
        except BadChunks:
            return body
    return body
