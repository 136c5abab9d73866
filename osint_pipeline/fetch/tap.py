"""Takes the bytes of each exchange off the wire, below Scrapy: Twisted's HTTP/1.1 client protocol with a tee.

Built on private classes of Scrapy 2.19 and Twisted; tests/test_wire*.py hold what is relied on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from OpenSSL import SSL
from scrapy.core.downloader.handlers.http11 import _LenientHTTP11ClientProtocol, _LenientHTTPClientParser
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import BODY, ConnectionAborted
from twisted.web._newclient import Request as TxRequest
from twisted.web.client import _HTTP11ClientFactory
from twisted.web.http import _IdentityTransferDecoder
from twisted.web.http_headers import Headers as TxHeaders
from twisted.web.http_headers import InvalidHeaderName

from osint_pipeline.fetch.head import split_interim
from osint_pipeline.fetch.peer import Peer, look_at
from storage.exchange import Block, Stored, Truncated
from storage.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """Bounds of one answer. Bodies are counted as on the wire, chunk framing included."""

    memory_body_bytes: int  # a larger one goes to a scratch file and is not handed to Scrapy
    body_limit_bytes: int  # a larger one is cut
    head_limit_bytes: int = 1 << 20  # interim answers included
    timeout_seconds: float = 60.0  # where the request names none of its own


class Fetch:
    """One download as Scrapy asked for it; holds the tape of each request that it wrote (a dead connection makes two)."""

    __slots__ = ("limits", "scratch", "started_at", "tapes")

    def __init__(self, limits: WireLimits, scratch: Path) -> None:
        self.limits, self.scratch = limits, scratch
        self.started_at = datetime.now(UTC)
        self.tapes: list[Tape] = []

    @property
    def flags(self) -> list[str]:
        """Say why Scrapy gets no body: "truncated" or "stored"."""
        last = self.tapes[-1]
        return ["truncated"] if last.truncated is Truncated.LENGTH else ["stored"] if last.file else []


class Tape:
    """What crossed the wire for one request. Mutable until ended; memory first, a scratch file once it is large."""

    __slots__ = (
        "alarm_bytes", "ended_at", "error", "failure", "file", "got", "head_bytes", "interim", "limits", "on_spill",
        "owner", "path", "peer", "scratch", "sent", "size_bytes", "started_at", "trailing_bytes", "truncated", "write",
    )  # fmt: skip

    def __init__(self, limits: WireLimits, scratch: Path, owner: "TapProtocol") -> None:
        self.limits, self.scratch = limits, scratch
        self.owner: TapProtocol | None = owner
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.write: Callable[[bytes], object] = self.got.append
        self.size_bytes = 0
        self.alarm_bytes = min(limits.head_limit_bytes, limits.memory_body_bytes)
        self.head_bytes: int | None = None
        self.interim: list[str] = []
        self.on_spill: Callable[[], None] | None = None  # frees what the reader of the body holds
        self.file: IO[bytes] | None = None
        self.path: Path | None = None
        self.peer: Peer | None = None
        self.started_at = datetime.now(UTC)
        self.ended_at: datetime | None = None
        self.trailing_bytes = 0
        self.truncated: Truncated | None = None
        self.failure: str | None = None
        self.error: OSError | None = None

    @property
    def body_bytes(self) -> int:
        """Count the body's bytes so far; the head must be complete."""
        if self.head_bytes is None:
            self._find_head()
        return self.size_bytes - (self.head_bytes or 0)

    def _find_head(self) -> None:
        self.interim, block, self.head_bytes = split_interim(b"".join(self.got))
        self.got[:] = [block]
        self.size_bytes = len(block)

    def spill(self) -> None:
        """Move to a scratch file; all that comes after goes there at once. A full disk stands in `error`."""
        if self.head_bytes is None:
            self._find_head()
        self.path = self.scratch / f"{new_id()}.answer"
        try:
            self.file = self.path.open("xb", buffering=0)
        except OSError as error:
            self.error = error
            return
        self.write = self._store
        self._store(b"".join(self.got))
        self.got.clear()
        if self.on_spill is not None:
            self.on_spill()

    def _store(self, data: bytes) -> None:
        if self.error or not self.file:
            return
        view = memoryview(data)
        try:
            while view:
                view = view[self.file.write(view) :]
        except OSError as error:
            self.error = error

    def shorten(self, size_bytes: int) -> None:
        """Keep only the first bytes."""
        if self.size_bytes <= size_bytes:
            return
        self.size_bytes = size_bytes
        if self.file is None:
            self.got[:] = [b"".join(self.got)[:size_bytes]]
        else:
            self.file.truncate(size_bytes)

    def block(self) -> Block | None:
        """Return the answer without its interim ones, None if there is none."""
        if self.file is not None and self.path is not None:
            return Stored(path=self.path, length_bytes=self.size_bytes)
        block = b"".join(self.got)
        if self.head_bytes is None and block[9:10] == b"1":
            self.interim, block, self.head_bytes = split_interim(block)
        return block or None

    def discard(self) -> None:
        """Delete the scratch file, if there is one."""
        if self.file is not None:
            self.file.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class FetchHeaders(TxHeaders):
    """Request headers that carry their Fetch through Twisted's Agent and pool down to the protocol."""

    fetch: Fetch

    @classmethod
    def of(cls, headers: TxHeaders, fetch: Fetch) -> "FetchHeaders":
        """Share the headers' values; nothing is encoded anew."""
        made = cls()
        made._rawHeaders, made.fetch = headers._rawHeaders, fetch
        return made

    def copy(self) -> "FetchHeaders":
        """Copy values and Fetch (the Agent does so before it adds Host)."""
        made = FetchHeaders()
        made._rawHeaders = {name: list(values) for name, values in self._rawHeaders.items()}
        made.fetch = self.fetch
        return made


class _Tee:
    """Writes to a transport and to a tape."""

    __slots__ = ("_sent", "_transport")

    def __init__(self, transport: Any, sent: list[bytes]) -> None:
        self._transport, self._sent = transport, sent

    def write(self, data: bytes) -> None:
        self._sent.append(data)
        self._transport.write(data)

    def writeSequence(self, lines: list[bytes]) -> None:
        self._sent.extend(lines)
        self._transport.writeSequence(lines)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._transport.unregisterProducer()


class _TapedRequest(TxRequest):
    """A request whose bytes go to its tape as well."""

    tape: Tape

    def writeTo(self, transport: Any) -> Any:
        return super().writeTo(_Tee(transport, self.tape.sent))


class _Parser(_LenientHTTPClientParser):
    """Skips header fields whose name is no token (the record has them), as browsers do; takes long lines."""

    MAX_LENGTH = 1 << 20  # Twisted's 16 KiB drop answers with a long policy or cookie

    def headerReceived(self, name: bytes, value: bytes) -> None:
        try:
            super().headerReceived(name, value)
        except InvalidHeaderName:
            return


class TapProtocol(_LenientHTTP11ClientProtocol):
    """One connection; it has a tape while a request of ours is under way."""

    transport: Any
    _tape: Tape | None = None
    _peer: Peer | None = None

    def request(self, request: TxRequest) -> Any:
        if self._state != "QUIESCENT":
            return super().request(request)  # fails; nothing is written
        fetch: Fetch = request.headers.fetch
        self._tape = tape = Tape(fetch.limits, fetch.scratch, self)
        fetch.tapes.append(tape)
        taped = cast(_TapedRequest, request)
        taped.__class__, taped.tape = _TapedRequest, tape
        answer = super().request(request)
        if self._parser is not None:
            self._parser.__class__ = _Parser
        return answer

    def dataReceived(self, data: bytes) -> None:
        tape = self._tape
        if tape is not None:
            tape.write(data)
            tape.size_bytes += len(data)
            if tape.size_bytes > tape.alarm_bytes and self._grown(tape):
                return
        super().dataReceived(data)

    def _grown(self, tape: Tape) -> bool:
        """Answer an alarm: store or cut. True if it was cut, then nobody reads on."""
        limits = tape.limits
        if self._parser is None or self._parser.state != BODY:
            if tape.size_bytes > limits.head_limit_bytes:
                self._cut(tape, limits.head_limit_bytes)
                return True
            return False
        body = tape.body_bytes
        head = tape.head_bytes or 0
        if tape.file is None and body > limits.memory_body_bytes:
            tape.spill()
        tape.alarm_bytes = head + (limits.memory_body_bytes if tape.file is None else limits.body_limit_bytes)
        if tape.error is not None or body > limits.body_limit_bytes:
            self._cut(tape, head + limits.body_limit_bytes)
            return True
        return False

    def _cut(self, tape: Tape, size_bytes: int) -> None:
        tape.shorten(size_bytes)
        self._seal(Truncated.LENGTH, None)
        self.transport.abortConnection()

    def _finishResponse(self, rest: bytes) -> None:
        tape = self._tape
        if tape is not None:
            if rest:
                tape.trailing_bytes = len(rest)
                tape.shorten(tape.size_bytes - len(rest))
                if self._currentRequest is not None:
                    self._currentRequest.persistent = False  # who sends more than was asked for gets no second request
            self._seal(None, None)
        super()._finishResponse(rest)

    def _disconnectParser(self, reason: Failure) -> None:
        if self._tape is not None:
            self._seal(*self._why(reason))
        super()._disconnectParser(reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._tape is not None:  # lost while the request was still being written
            self._seal(*self._why(reason))

    def give_up(self) -> None:
        """End the tape now, for want of time; what comes later is not recorded."""
        if self._tape is not None:
            self._seal(Truncated.TIME, "timeout")

    def _why(self, reason: Failure) -> tuple[Truncated | None, str | None]:
        """Say how far an answer that did not end by itself is whole, and a word for its failure."""
        if reason.check(CancelledError, ConnectionAborted):
            return Truncated.TIME, "timeout"
        if reason.check(SSL.Error) or not look_at(self.transport).ready:
            return Truncated.DISCONNECT, "tls"
        if not reason.check(ConnectionDone, ConnectionLost):
            return Truncated.UNSPECIFIED, "malformed"
        decoder = getattr(self._parser, "bodyDecoder", None)
        ends_with_connection = isinstance(decoder, _IdentityTransferDecoder) and decoder.contentLength is None
        if reason.check(ConnectionDone) and ends_with_connection:  # RFC 9112 6.3
            return None, None
        return Truncated.DISCONNECT, "disconnect"

    def _seal(self, truncated: Truncated | None, failure: str | None) -> None:
        tape, self._tape = self._tape, None
        if tape is None:
            return
        tape.owner = tape.on_spill = None  # no cycle may keep the bytes until the next garbage collection
        tape.ended_at = datetime.now(UTC)
        tape.truncated, tape.failure = truncated, failure
        large = tape.file is None and tape.size_bytes > tape.alarm_bytes and not truncated
        if large and tape.body_bytes > tape.limits.memory_body_bytes:
            tape.spill()
        if tape.file is not None:
            tape.file.close()
        tape.peer = self._peer or look_at(self.transport)
        self._peer = tape.peer if tape.peer.ready else None


class TapFactory(_HTTP11ClientFactory):
    """Builds TapProtocols for a connection pool."""

    noisy = False

    def buildProtocol(self, addr: Any) -> TapProtocol:
        return TapProtocol(self._quiescentCallback)
