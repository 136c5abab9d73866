"""Takes the bytes of each exchange of a download onto tapes, within limits, and appends each tape once it has ended."""

import hashlib
import io
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, cast
from uuid import UUID

import yt_dlp.networking._urllib as ytdlp_urllib
from yt_dlp.utils import DownloadCancelled

from osint_pipeline.fetch.guard import AddressRefused, Guard
from osint_pipeline.fetch.head import split_interim
from osint_pipeline.fetch.sink import Sink
from settings.exits import Exit
from storage.errors import StorageError
from storage.exchange import Block, Exchange, RecordRef, Stored, Truncated
from storage.http import Head, measure
from storage.ids import new_id

MEMORY_BYTES = 1 << 20  # an answer above this goes to a scratch file
DRAIN_BYTES, DRAIN_SECONDS = 1 << 20, 5.0  # what is read of an answer that its reader left half-read
HEAD_BYTES = 256 << 10
RANGE = re.compile(rb"bytes (\d+)-")


class Stopped(DownloadCancelled):
    """A limit of ours ended the download; yt-dlp does not retry it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A recorded response and where its payload stands in the file: `start_bytes` of a range, else 0.

    `decoded_sha256` is of a small payload without its content coding.
    """

    ref: RecordRef
    start_bytes: int
    decoded_sha256: str | None = None


class Tee:
    """Records one download. Safe to use from the threads that yt-dlp starts for fragments.

    `limit_bytes` bounds one answer; all together may hold twice as much. `refused` are addresses the guard forbade.
    """

    def __init__(
        self, *, sink: Sink, guard: Guard, capture: UUID, folder: Path, limit_bytes: int, timeout_seconds: float,
        exit: Exit | None = None,
    ) -> None:  # fmt: skip
        self.sink, self.guard, self.capture, self.folder = sink, guard, capture, folder
        self.limit_bytes, self.exit = limit_bytes, exit
        self.deadline = time.monotonic() + timeout_seconds
        self.stopped: Truncated | None = None
        self.error: StorageError | OSError | None = None  # with which the sink or the scratch disk refused
        self.kept: list[Kept] = []
        self.records: list[RecordRef] = []
        self.refused: list[AddressRefused] = []
        self._total_bytes = 0
        self._open: set[Tape] = set()
        self._lock = threading.RLock()

    def allow(self, tape: "Tape | None" = None) -> int:
        """Say how many bytes may be read now; raise Stopped where a limit is reached."""
        with self._lock:
            room = 2 * self.limit_bytes - self._total_bytes
        if tape is not None:
            room = min(room, self.limit_bytes - tape.size_bytes)
        if self.stopped is None and time.monotonic() > self.deadline:
            self.stopped = Truncated.TIME
        if self.stopped is None and room <= 0:
            self.stopped = Truncated.LENGTH
        if self.stopped is not None or self.error is not None:
            raise Stopped(f"our own limit: {self.stopped or 'the archive takes no more'}")
        return room

    def count(self, size_bytes: int) -> None:
        """Count bytes that came."""
        with self._lock:
            self._total_bytes += size_bytes

    def opened(self, tape: "Tape") -> None:
        """Remember a tape that must be sealed."""
        with self._lock:
            self._open.add(tape)

    def keep(self, tape: "Tape", exchange: Exchange, start_bytes: int, decoded_sha256: str | None) -> None:
        """Append an exchange; a refusal by the sink stands in `error` and ends the download."""
        try:
            ref = self.sink.exchange(exchange, self.capture)
        except (StorageError, OSError) as error:
            self.error = error
            return
        with self._lock:
            self._open.discard(tape)
            self.records.append(ref)
            if exchange.response is not None:
                self.kept.append(Kept(ref=ref, start_bytes=start_bytes, decoded_sha256=decoded_sha256))

    def finish(self) -> None:
        """Seal and close what yt-dlp left open."""
        with self._lock:
            left = list(self._open)
        for tape in left:
            tape.seal()
            if tape.raw is not None:
                tape.raw.close()


class Tape:
    """One exchange while it is under way: memory first, a scratch file once it is large."""

    def __init__(self, tee: Tee, url: str, method: str) -> None:
        self.tee, self.url, self.method = tee, url, method
        self.started_at = datetime.now(UTC)
        self.sent: list[bytes] = []
        self.size_bytes = 0
        self.notes: list[tuple[str, str]] = []
        if tee.exit is not None:
            self.notes.append(("OSINT-Proxy", "connect" if tee.exit.scheme == "http" else tee.exit.way))
        self.ip: str | None = None
        self.tls: str | None = None
        self.cipher: str | None = None
        self.failure: str | None = None
        self.truncated: Truncated | None = None
        self.ended = False  # the other end closed
        self.raw: io.RawIOBase | None = None
        self._got = bytearray()
        self._file: IO[bytes] | None = None
        self._path: Path | None = None
        self._sealed = False
        self._lock = threading.Lock()
        tee.opened(self)

    def took(self, data: bytes | memoryview) -> None:
        """Keep bytes that came."""
        self.size_bytes += len(data)
        self.tee.count(len(data))
        if self._file is not None:
            self._write(data)
            return
        self._got += data
        if self.size_bytes > MEMORY_BYTES:
            self._spill()

    def _spill(self) -> None:
        self._path = self.tee.folder / f"{new_id()}.answer"
        try:
            self._file = self._path.open("xb")
        except OSError as error:
            self.tee.error = error
            return
        names, start, _ = split_interim(bytes(self._got))
        self.notes += [("OSINT-Interim", name) for name in names]
        self.size_bytes = len(start)
        self._write(start)
        self._got = bytearray(start[:HEAD_BYTES])

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            cast(IO[bytes], self._file).write(data)
        except OSError as error:
            self.tee.error = error

    def seal(self) -> None:
        """End the tape and append its exchange. May be called twice; what its reader left is read first, within bounds."""
        with self._lock:
            if self._sealed:
                return
            self._sealed = True
        interim, start, head_bytes = split_interim(bytes(self._got))
        skipped = len(self._got) - len(start)
        head = Head(start[:head_bytes])
        if self.size_bytes and not self._whole(head, skipped) and not self.truncated:
            self._drain(head, skipped)
        self._judge(head, skipped)
        self.notes += [("OSINT-Interim", name) for name in interim]
        block = self._block(skipped)
        found = RANGE.match(b"".join(head.values("Content-Range")[:1]))
        self.tee.keep(self, self._exchange(block), int(found[1]) if found else 0, _decoded(head, block))

    def _whole(self, head: Head, skipped: int) -> bool:
        """Say whether the body has come to its end by its own framing (RFC 9112 6.3)."""
        if not head.raw.endswith(b"\n"):
            return False
        if self.method == "HEAD" or head.status in (204, 304):
            return True
        if head.chunked:
            return self._file is None and measure(bytes(self._got[skipped:])).framing is None
        length = self._length(head)
        return self.ended if length is None else self._body_bytes(head, skipped) >= length

    def _length(self, head: Head) -> int | None:
        values = head.values("Content-Length")
        return int(values[0]) if values and values[0].isdigit() else None

    def _body_bytes(self, head: Head, skipped: int) -> int:
        return self.size_bytes - skipped - len(head.raw)

    def _drain(self, head: Head, skipped: int) -> None:
        if self.raw is None or self.ended or self.tee.stopped:
            return
        until, most = time.monotonic() + DRAIN_SECONDS, self.size_bytes + DRAIN_BYTES
        with suppress(OSError, ValueError):  # the record says that it is not whole
            while time.monotonic() < until and self.size_bytes < most:
                data = self.raw.read(1 << 16)
                if not data:
                    self.ended = data is not None
                    return
                self.took(data)
                if not head.chunked and self._whole(head, skipped):
                    return

    def _judge(self, head: Head, skipped: int) -> None:
        """Say how far the answer is whole."""
        if not self.size_bytes:
            self.failure = self.failure or "no-answer"
            return
        whole = self._stored_whole() if head.chunked and self._file is not None else self._whole(head, skipped)
        if whole:
            self.truncated = None
            self._shorten(head, skipped)
            return
        self.truncated = self.truncated or self.tee.stopped or (Truncated.DISCONNECT if self.ended else None)
        if self.truncated is None:
            self.truncated = Truncated.UNSPECIFIED
            self.notes.append(("OSINT-Left", "the reader wanted no more of this answer"))

    def _stored_whole(self) -> bool:
        cast(IO[bytes], self._file).flush()
        return measure(self._stored()).framing is None

    def _shorten(self, head: Head, skipped: int) -> None:
        length = self._length(head)
        if length is None or head.chunked or self.method == "HEAD":
            return
        more = self._body_bytes(head, skipped) - length
        if more <= 0:
            return
        self.notes.append(("OSINT-Trailing", f"{more} bytes after the answer are left out"))
        self.size_bytes -= more
        if self._file is not None:
            self._file.truncate(self.size_bytes)
        else:
            del self._got[self.size_bytes :]

    def _stored(self) -> Stored:
        return Stored(path=cast(Path, self._path), length_bytes=self.size_bytes)

    def _block(self, skipped: int) -> Block | None:
        if self._file is None:
            return bytes(self._got[skipped:]) or None
        self._file.close()
        return self._stored()

    def _exchange(self, block: Block | None) -> Exchange:
        protocol = "http/1.0" if self._got.startswith(b"HTTP/1.0") else "http/1.1"
        return Exchange(
            url=self.url,
            method=self.method,
            started_at=self.started_at,
            ended_at=datetime.now(UTC),
            request=b"".join(self.sent),
            response=block,
            ip=self.ip,
            protocols=(protocol, self.tls) if self.tls else (protocol,),
            cipher=self.cipher,
            truncated=self.truncated if block is not None else None,
            failure=self.failure if block is None else None,
            notes=tuple(self.notes),
        )


def _decoded(head: Head, block: Block | None) -> str | None:
    """Digest what yt-dlp makes of a coded body, so that a thumbnail sent with gzip is still proved."""
    coding = b"".join(head.values("Content-Encoding")).decode("latin-1").strip().lower()
    decode = {
        "gzip": ytdlp_urllib.HTTPHandler.gz,
        "deflate": ytdlp_urllib.HTTPHandler.deflate,
        "br": ytdlp_urllib.HTTPHandler.brotli,
    }.get(coding)
    if decode is None or not isinstance(block, bytes) or head.chunked:
        return None
    try:
        return hashlib.sha256(decode(block[len(head.raw) :])).hexdigest()
    except tuple(ytdlp_urllib.CONTENT_DECODE_ERRORS):
        return None
