"""HTTP/1.x messages as bytes: where the head ends, what it says, and the payload within the framing."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from storage.digest import pieces
from storage.exchange import Block, Exchange

HEAD_LIMIT_BYTES = 1 << 20
LINE_LIMIT_BYTES = 64 << 10
_END = re.compile(rb"\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?!\d)")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")


class BadChunks(ValueError):
    """A body is called chunked and is not (RFC 9112 7.1)."""


@dataclass(frozen=True, slots=True)
class Head:
    """The start line and fields of a message as they came, the blank line included."""

    raw: bytes

    @property
    def status(self) -> int | None:
        """The status code of a response; None for a request or where it cannot be read."""
        found = _STATUS.match(self.raw)
        return int(found[1]) if found else None

    def values(self, name: str) -> tuple[bytes, ...]:
        """List the values of a field in order, whatever its case; folded lines are joined."""
        raw = self.raw
        if b"\n " in raw or b"\n\t" in raw:
            raw = _unfolded(raw)
        return tuple(value.rstrip() for value in _field(name).findall(raw))

    @property
    def served_type(self) -> str | None:
        """The first Content-Type without its parameters, in the case it was served; None if there is none."""
        if not (found := self.values("Content-Type")):
            return None
        try:
            text = found[0].decode("utf-8")
        except UnicodeDecodeError:
            text = found[0].decode("iso-8859-1")
        return re.split(r"[;\s]", text, maxsplit=1)[0].strip()

    @property
    def chunked(self) -> bool:
        """Whether the last transfer coding is chunked (RFC 9112 6.1)."""
        if b"chunked" not in self.raw.lower():
            return False
        codings = b",".join(self.values("Transfer-Encoding")).split(b",")
        return codings[-1].strip().lower() == b"chunked"


def _unfolded(raw: bytes) -> bytes:
    """Join folded lines (RFC 9112 5.2) in linear time: a hostile head may hold a megabyte of blanks."""
    lines = raw.split(b"\n")
    folds = [line[:1] in (b" ", b"\t") for line in lines[1:]]
    joined = (line.rstrip(b" \t\r") if fold else line + b"\n" for line, fold in zip(lines, folds, strict=False))
    return b"".join(joined) + lines[-1]


@lru_cache(maxsize=64)
def _field(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?im)^" + re.escape(name.encode("ascii")) + rb"[ \t]*:[ \t]*([^\r\n]*)")


def split(start: bytes) -> Head | None:
    """Find the head of a message at the start of its bytes; None if these are no message with a head.

    A response whose head never ends is all head. Body = block[len(head.raw):].
    """
    found = _END.search(start, 0, HEAD_LIMIT_BYTES)
    if found:
        return Head(start[: found.end()])
    return Head(start) if start.startswith(b"HTTP/") and len(start) < HEAD_LIMIT_BYTES else None


def split_response(start: bytes) -> Head | None:
    """Find the head of a response; None where the first line is no HTTP/1.x status line (then all is body)."""
    return split(start) if start.startswith(b"HTTP/") else None


class Dechunker:
    """Takes chunk framing off as bytes pass (RFC 9112 7.1), extensions and trailers included.

    `wrong` says why the framing was not followed further; what was yielded before is then no payload.
    """

    def __init__(self) -> None:
        self.wrong: str | None = None
        self._line = b""
        self._left_bytes = 0
        self._expects = "size"  # then data, data's end, ...; after a size of 0: trailer, then nothing

    def feed(self, data: bytes | memoryview) -> Iterator[memoryview]:
        """Yield the payload in data; must be read to its end before the next call."""
        view, at = memoryview(data), 0
        while at < len(view) and self.wrong is None:
            if self._expects == "data":
                part = view[at : at + self._left_bytes]
                at += len(part)
                self._left_bytes -= len(part)
                if not self._left_bytes:
                    self._expects = "data's end"
                yield part
            else:
                at = self._feed_line(view, at)

    def finish(self) -> str | None:
        """Say what is wrong once the body has ended; None if it was well-formed."""
        if self.wrong is None and self._expects != "nothing":
            self.wrong = f"chunked body ends where its {self._expects} was expected"
        return self.wrong

    def _feed_line(self, view: memoryview, at: int) -> int:
        if self._expects == "nothing":
            self.wrong = "bytes after the last chunk"
            return at
        window = bytes(view[at : at + LINE_LIMIT_BYTES])
        end = window.find(b"\n") + 1
        self._line += window[: end or len(window)]
        if not end:
            if len(self._line) >= LINE_LIMIT_BYTES:
                self.wrong = f"chunk {self._expects} is too long"
            return at + len(window)
        line, self._line = self._line, b""
        self._read_line(line)
        return at + end

    def _read_line(self, line: bytes) -> None:
        if self._expects == "size":
            if not (found := _SIZE.fullmatch(line)):
                self.wrong = f"no chunk size in {line[:40]!r}"
                return
            self._left_bytes = int(found[1], 16)
            self._expects = "data" if self._left_bytes else "trailer"
        elif self._expects == "data's end":
            self._expects = "size"
            if line != b"\r\n":
                self.wrong = "a chunk is longer than its size"
        elif line == b"\r\n":
            self._expects = "nothing"
        elif b":" not in line:
            self.wrong = "a trailer line is no field"


def dechunk(parts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """Yield the payload of a chunked body; BadChunks, possibly after some of it, if the framing is malformed."""
    machine = Dechunker()
    for part in parts:
        yield from machine.feed(part)
        if machine.wrong:
            break
    if wrong := machine.finish():
        raise BadChunks(wrong)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadDigest:
    """What a message block holds: SHA-256 (hex) and size of its payload, de-chunked, content coding left on.

    `body_sha256` is of the body with its chunk framing. `framing` says why a body that is called chunked was not
    de-chunked; the payload is then that raw body.
    """

    sha256: str
    size_bytes: int
    body_sha256: str
    block_sha256: str
    block_bytes: int
    head: Head | None
    framing: str | None = None


def payload_of(exchange: Exchange) -> PayloadDigest:
    """Measure an exchange's response before it is appended; hand the result to append so it is hashed once."""
    if exchange.response is None:
        raise ValueError("an exchange without a response has no payload")
    return measure(exchange.response)


def measure(block: Block) -> PayloadDigest:
    """Measure a response block, in bounded memory where it is stored."""
    if not isinstance(block, bytes):
        return measure_parts(pieces(block))
    head = split_response(block)
    if head and head.chunked:
        return measure_parts((block,))
    body = memoryview(block)[len(head.raw) :] if head else memoryview(block)
    sha256 = hashlib.sha256(body).hexdigest()
    return PayloadDigest(
        sha256=sha256,
        body_sha256=sha256,
        size_bytes=len(body),
        block_sha256=hashlib.sha256(block).hexdigest(),
        block_bytes=len(block),
        head=head,
    )


def measure_parts(parts: Iterable[bytes], *, response: bool = True, algorithm: str = "sha256") -> PayloadDigest:
    """Measure a message block that comes in parts, in one pass; response=False reads a request.

    Another algorithm than sha256 is for checking what others wrote; the digests are then of that.
    """
    whole, raw, inner = hashlib.new(algorithm), hashlib.new(algorithm), hashlib.new(algorithm)
    rest = iter(parts)
    start, total, inner_bytes = _gather(rest), 0, 0
    head = split_response(start) if response else split(start)
    machine = Dechunker() if head and head.chunked else None
    if head is None:
        raw = whole  # the body is the block: hashed once
    skip = len(head.raw) if head else 0
    part: bytes | None = start
    while part is not None:
        whole.update(part)
        body = memoryview(part)[skip:]
        total, skip = total + len(part), 0
        if head:
            raw.update(body)
        if machine:
            for inside in machine.feed(body):
                inner.update(inside)
                inner_bytes += len(inside)
        part = next(rest, None)
    raw_bytes = total - (len(head.raw) if head else 0)
    framing = machine.finish() if machine and raw_bytes else None
    dechunked = machine is not None and framing is None
    return PayloadDigest(
        sha256=(inner if dechunked else raw).hexdigest(),
        size_bytes=inner_bytes if dechunked else raw_bytes,
        body_sha256=raw.hexdigest(),
        block_sha256=whole.hexdigest(),
        block_bytes=total,
        head=head,
        framing=framing,
    )


def _gather(parts: Iterator[bytes]) -> bytes:
    """Join parts until the head is complete or too long to be one."""
    start = b""
    for part in parts:
        start = start + part if start else part
        if len(start) >= HEAD_LIMIT_BYTES or _END.search(start):
            break
    return start
