"""Makes the Exchange of a tape, or of a request that was never written, and declares what stands in neither."""

from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

from OpenSSL import SSL
from scrapy.core.downloader.handlers.http11 import TunnelError
from scrapy.exceptions import DownloadTimeoutError
from scrapy.http import Request
from scrapy.utils.httpobj import urlparse_cached
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TimeoutError,
)
from twisted.python.failure import Failure

from osint_pipeline.fetch.guard import NameUnknown
from osint_pipeline.fetch.tap import Fetch, Tape
from osint_pipeline.fetch.tunnel import TunnelFailed
from storage.exchange import Block, Exchange, Truncated

FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "refused"),
    (NameUnknown, "name-unknown"),
    (DNSLookupError, "name-unknown"),
    (TimeoutError, "timeout"),
    (DownloadTimeoutError, "timeout"),
    (CancelledError, "timeout"),
    (TunnelError, "tunnel"),
    (SSL.Error, "tls"),
    (ConnectError, "unreachable"),
    (ConnectionDone, "disconnect"),
    (ConnectionLost, "disconnect"),
)

VIA = "osint_via"  # meta: the kind of proxy below the tap, "socks5"
PROXY_REDACTED = ("OSINT-Redacted", "proxy-authorization")


def bare_url(url: str) -> str:
    """Return a URL as requested, without fragment and userinfo."""
    url = url.partition("#")[0]
    if "@" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else url


def word_for(failure: Failure) -> str:
    """Name why a request was never written, as Exchange.failure does."""
    if isinstance(failure.value, TunnelFailed):
        return failure.value.word
    return next((word for kind, word in FAILURES if failure.check(kind)), "unspecified")


def unanswered(fetch: Fetch, request: Request, failure: str) -> Exchange:
    """Describe a request that was never written: no connection, no tunnel or no name."""
    notes = circumstances(request)
    proxied = any(name == "OSINT-Proxy" for name, _ in notes)
    return Exchange(
        url=bare_url(request.url),
        method=request.method,
        started_at=fetch.started_at,
        ended_at=datetime.now(UTC),
        request=b"",
        response=None,
        failure=f"proxy-{failure}" if proxied and failure != "timeout" else failure,
        notes=tuple(notes),
    )


def exchange_of(tape: Tape, request: Request) -> Exchange:
    """Make the Exchange of an ended tape."""
    block, peer = tape.block(), tape.peer
    notes = circumstances(request)
    proxied = bool(notes) and notes[0][0] == "OSINT-Proxy"
    notes += [("OSINT-Interim", name) for name in tape.interim]
    if tape.trailing_bytes:
        notes.append(("OSINT-Trailing", f"{tape.trailing_bytes} bytes after the answer are left out"))
    if peer and peer.certificate_sha256:
        notes.append(("OSINT-Certificate-SHA256", peer.certificate_sha256))
    unsent = peer is not None and not peer.ready  # it still waited for the handshake
    return Exchange(
        url=bare_url(request.url),
        method=request.method,
        started_at=tape.started_at,
        ended_at=tape.ended_at or tape.started_at,
        request=b"" if unsent else redacted(tape.sent) if PROXY_REDACTED in notes else b"".join(tape.sent),
        response=block,
        ip=None if proxied or peer is None else peer.ip,
        protocols=_protocols(tape, block),
        cipher=peer.cipher if peer else None,
        truncated=tape.truncated if block is not None else None,
        failure=_failure(tape, block),
        notes=tuple(notes),
    )


def _failure(tape: Tape, block: Block | None) -> str | None:
    if block is not None:
        return "malformed" if tape.failure == "malformed" else None
    return tape.failure or ("endless-head" if tape.truncated is Truncated.LENGTH else "no-answer")


def _protocols(tape: Tape, block: Block | None) -> tuple[str, ...]:
    old = isinstance(block, bytes) and block.startswith(b"HTTP/1.0")
    if tape.file is not None and tape.path is not None:
        with tape.path.open("rb") as file:
            old = file.read(8) == b"HTTP/1.0"
    http = "http/1.0" if old else "http/1.1"
    return (http, tape.peer.tls) if tape.peer and tape.peer.tls else (http,)


def circumstances(request: Request) -> list[tuple[str, str]]:
    """Declare what stood between us and the origin, and what is left out of the record; the proxy comes first."""
    notes = []
    if via := request.meta.get(VIA):
        notes.append(("OSINT-Proxy", via))
    elif request.meta.get("proxy"):
        notes.append(("OSINT-Proxy", "connect" if request.url.startswith("https:") else "http"))
    if b"Proxy-Authorization" in request.headers:
        notes.append(PROXY_REDACTED)
    if "@" in urlparse_cached(request).netloc:
        notes.append(("OSINT-Redacted", "userinfo"))
    return notes


def redacted(sent: list[bytes]) -> bytes:
    """Join what was written, without the proxy's credentials."""
    end = sent.index(b"\r\n")
    head = [line for line in sent[:end] if not line.lower().startswith(b"proxy-authorization:")]
    return b"".join([*head, *sent[end:]])
