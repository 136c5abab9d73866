"""A small threaded HTTP/1.1 server that writes exactly the bytes it is told to, well-formed or not."""

import gzip
import hashlib
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import brotli

HTML = "text/html; charset=utf-8"
DATE = "Sat, 21 Nov 2026 09:00:00 GMT"
CHUNK_BYTES = 4096


class Framing(Enum):
    """How the end of a body is told."""

    LENGTH = "length"  # Content-Length
    CHUNKED = "chunked"
    CLOSE = "close"  # the connection ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as a site sees it."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    target: str = "/"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to send. `body` is plain; `coding` is put on only where the client accepts it.

    `cut_bytes` ends the connection after that many bytes of the body, `drip_seconds` waits before each `drip_bytes`.
    """

    status: int = 200
    body: bytes = b""
    media_type: str = HTML
    headers: tuple[tuple[str, str], ...] = ()
    coding: str | None = None
    framing: Framing = Framing.LENGTH
    ranges: bool = False
    cut_bytes: int | None = None
    drip_seconds: float = 0.0
    drip_bytes: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One answer, noted before its first byte leaves. `host` holds the port.

    `content_sha256` is of the body without coding; `sent_sha256` of the body as sent, de-chunked: what a WARC's
    payload digest must equal. A truncated answer counts the bytes that were sent; HEAD and 304 have none.
    """

    method: str
    host: str
    path: str
    status: int
    content_sha256: str
    sent_sha256: str
    sent_bytes: int


Site = Callable[[Asked], Answer]


def html(text: str, *, status: int = 200, **more: Any) -> Answer:
    """Answer with a UTF-8 page."""
    return Answer(status=status, body=text.encode(), **more)


def known_by(answer: Answer, last_modified: datetime | None = None) -> Answer:
    """Let an answer be asked for conditionally: by the digest of its body, and by a date where there is one."""
    weak = "W/" if answer.coding else ""
    told = [("ETag", f'{weak}"{hashlib.sha256(answer.body).hexdigest()[:20]}"')]
    if last_modified is not None:
        told.append(("Last-Modified", format_datetime(last_modified.astimezone(UTC), usegmt=True)))
    return replace(answer, headers=(*answer.headers, *told))


def redirect(location: str, status: int = 302) -> Answer:
    """Answer with a redirect; the body names no address, as many servers' do."""
    return Answer(status=status, body=b"<html><body>Found</body></html>", headers=(("Location", location),))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, site: Site, note: Callable[[Served], None]) -> None:
        self.site, self.note = site, note
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every open connection, so that its thread ends."""
        self.stopping.set()
        with self._guard:
            for one in self._open:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the client was first

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away; a fault of ours goes to stderr."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Answer any method: the site decides."""
        self._swallow_body()
        asked = self._asked()
        self._send(asked, self.server.site(asked))

    do_HEAD = do_POST = do_OPTIONS = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Keep stderr quiet."""

    def _swallow_body(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _asked(self) -> Asked:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {key.lower(): value for key, value in self.headers.items()}
        return Asked(method=self.command, path=parts.path, query=query, target=self.path, headers=headers)

    def _send(self, asked: Asked, answer: Answer) -> None:
        answer = _ranged(asked, _unless_modified(asked, answer))
        coding = answer.coding if answer.coding and answer.coding in _accepted(asked) else None
        payload = _encode(answer.body, coding)
        head = _head(answer, coding, len(payload))
        bodiless = asked.method == "HEAD" or answer.status in (204, 304)
        sent = b"" if bodiless else payload[: answer.cut_bytes]
        self.server.note(self._served(asked, answer, sent, b"" if bodiless else answer.body))
        self.wfile.write(head)
        if not bodiless:
            self._send_body(answer, sent)
        if answer.cut_bytes is not None or answer.framing is Framing.CLOSE:
            self.close_connection = True

    def _served(self, asked: Asked, answer: Answer, sent: bytes, content: bytes) -> Served:
        content = sent if answer.cut_bytes is not None else content
        return Served(
            method=asked.method,
            host=f"127.0.0.1:{cast(tuple[str, int], self.server.server_address)[1]}",
            path=asked.target,
            status=answer.status,
            content_sha256=hashlib.sha256(content).hexdigest(),
            sent_sha256=hashlib.sha256(sent).hexdigest(),
            sent_bytes=len(sent),
        )

    def _send_body(self, answer: Answer, sent: bytes) -> None:
        if answer.drip_seconds:
            for start in range(0, len(sent), answer.drip_bytes):
                if self.server.stopping.wait(answer.drip_seconds):
                    return
                self.wfile.write(sent[start : start + answer.drip_bytes])
        elif answer.framing is Framing.CHUNKED:
            self.wfile.write(_chunks(sent, ended=answer.cut_bytes is None))
        else:
            self.wfile.write(sent)


def _accepted(asked: Asked) -> set[str]:
    return {part.split(";")[0].strip() for part in asked.headers.get("accept-encoding", "").split(",")}


def _encode(body: bytes, coding: str | None) -> bytes:
    if coding == "gzip":
        return gzip.compress(body, 6, mtime=0)
    return brotli.compress(body, quality=5) if coding == "br" else body


def _head(answer: Answer, coding: str | None, length: int) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {_reason(answer.status)}", "Server: sample/1.0", f"Date: {DATE}"]
    if answer.media_type:
        lines.append(f"Content-Type: {answer.media_type}")
    if answer.coding:
        lines += [f"Content-Encoding: {coding}"] * bool(coding) + ["Vary: Accept-Encoding"]
    if answer.framing is Framing.CHUNKED:
        lines.append("Transfer-Encoding: chunked")
    elif answer.framing is Framing.LENGTH and answer.status not in (204, 304):
        lines.append(f"Content-Length: {length}")
    if answer.cut_bytes is not None or answer.framing is Framing.CLOSE:
        lines.append("Connection: close")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reason(status: int) -> str:
    return HTTPStatus(status).phrase


def _chunks(body: bytes, *, ended: bool) -> bytes:
    parts = [body[start : start + CHUNK_BYTES] for start in range(0, len(body), CHUNK_BYTES)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return framed + (b"0\r\n\r\n" if ended else b"")


def _unless_modified(asked: Asked, answer: Answer) -> Answer:
    """Answer 304 to a condition that holds; If-None-Match goes before If-Modified-Since (RFC 9110 13.2.2)."""
    told = {name.lower(): value for name, value in answer.headers}
    named, since = asked.headers.get("if-none-match"), asked.headers.get("if-modified-since")
    if answer.status != 200 or asked.method not in ("GET", "HEAD"):
        return answer
    if named is not None:
        tags = [tag.strip().removeprefix("W/") for tag in named.split(",")]
        same = told.get("etag", "").removeprefix("W/") in tags
    else:
        same = since is not None and since == told.get("last-modified")
    return replace(answer, status=304, body=b"", media_type="", coding=None) if same else answer


def _ranged(asked: Asked, answer: Answer) -> Answer:
    """Cut one byte range out of an answer that offers ranges (RFC 9110 14)."""
    if not answer.ranges or answer.status != 200:
        return answer
    answer = replace(answer, headers=(*answer.headers, ("Accept-Ranges", "bytes")))
    unit, _, spec = asked.headers.get("range", "").partition("=")
    first, dash, last = spec.partition("-")
    total = len(answer.body)
    if unit != "bytes" or not dash or "," in spec or not (first + last).isdigit():
        return answer
    start = int(first) if first else max(0, total - int(last))
    end = min(int(last) if first and last else total - 1, total - 1)
    if start > end:
        return replace(answer, status=416, body=b"", headers=(("Content-Range", f"bytes */{total}"),))
    told = (*answer.headers, ("Content-Range", f"bytes {start}-{end}/{total}"))
    return replace(answer, status=206, body=answer.body[start : end + 1], headers=told)


class Serving:
    """One site on its own port, from construction to `close`. Port 0 takes a free one."""

    def __init__(self, site: Site, note: Callable[[Served], None], port: int = 0) -> None:
        self._server = _Server(port, site, note)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name=f"sample-{self.port}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, end open connections, wait for their threads. May be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.hang_up()
            self._server.server_close()

    def __enter__(self) -> "Serving":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
