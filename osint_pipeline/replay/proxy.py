"""An HTTP proxy on 127.0.0.1 that answers out of the archive alone: it has no way to any network."""

import html
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from osint_pipeline.logs import logger
from osint_pipeline.replay.answer import Answer, Answers
from osint_pipeline.replay.certificate import Certificates
from osint_pipeline.replay.peer import is_ours
from osint_pipeline.replay.recorded import Asked, How, Recorded
from storage.errors import DamagedWarc, StorageError

log = logger(__name__)
IDLE_SECONDS = 60.0  # a connection that says nothing for so long is closed
DOCUMENTS = ("document", "iframe", "frame", "embed", "object")
BODY_BYTES = 256 << 20  # of a request; a larger one is refused
TLS_HANDSHAKE = 0x16  # RFC 8446 5.1
SAFE = "default-src 'none'; style-src 'unsafe-inline'"
PAGE = """<!doctype html><meta charset=utf-8><title>not in the archive</title>
<body style="font:16px sans-serif;margin:3em;color:#333;background:#fff"><h1>{title}</h1><p>{said}</p><p><code>{url}</code></p>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that came in, and how it was answered; `socket` for a WebSocket, whose frames are not replayed.

    `shown` is the address of the record that the answer came from, None where there was none.
    """

    method: str
    url: str
    how: How
    status: int
    shown: str | None = None
    socket: bool = False


class ReplayProxy:
    """`with ReplayProxy() as proxy:`; answers from what `show` was given last. Only processes of this user are answered."""

    def __init__(self, port: int = 0) -> None:
        self.certificates = Certificates()
        self.seen: list[Seen] = []
        self.recorded: Recorded | None = None
        self.answers: Answers | None = None
        self._open, self._last = 0, time.monotonic()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="replay").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What a browser is given as its proxy."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def show(self, recorded: Recorded) -> None:
        """Answer from one capture from here on, and forget what was asked before."""
        with self._lock:
            self.recorded, self.answers, self.seen = recorded, Answers(recorded), []

    def quiet_seconds(self) -> float:
        """How long nothing was asked, and nothing is being answered."""
        with self._lock:
            return 0.0 if self._open else time.monotonic() - self._last

    def take(self, asked: Asked, *, navigates: bool, websocket: bool) -> Answer | None:
        """Answer a request and note it; None: the connection is to be ended as it was live."""
        with self._lock:
            answers, recorded, seen = self.answers, self.recorded, self.seen
            self._open += 1
        try:
            if navigates and recorded:
                recorded.restart()
            answer = _websocket(asked) if websocket else _answer(answers, recorded, asked)
            seen.append(Seen(method=asked.method, url=asked.url, how=answer.how, status=answer.status,
                             shown=answer.shown, socket=websocket))  # fmt: skip
            return None if answer.how is How.FAILED else answer
        finally:
            with self._lock:
                self._open -= 1
                self._last = time.monotonic()


def _answer(answers: Answers | None, recorded: Recorded | None, asked: Asked) -> Answer:
    try:
        if answers and (found := answers.answer(asked)):
            return found
    except (DamagedWarc, StorageError) as error:
        log.warning("a record cannot be shown", url=asked.url, why=str(error))
        return _said(502, How.DAMAGED, "damaged in the archive", str(error), asked.url)
    if recorded and recorded.asked_in_vain(asked.url):
        return Answer(status=0, reason="", fields=(), body=b"", how=How.FAILED)
    return _said(404, How.MISSING, "not in the archive", "This address was not captured with this page.", asked.url)


def _websocket(asked: Asked) -> Answer:
    return _said(404, How.MISSING, "not replayed", "Frames of a WebSocket are not replayed.", asked.url)


def _said(status: int, how: How, title: str, said: str, url: str) -> Answer:
    body = PAGE.format(title=html.escape(title), said=html.escape(said), url=html.escape(url)).encode()
    fields = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", SAFE),
        ("Cache-Control", "no-store"),
    )
    return Answer(status=status, reason=title, fields=fields, body=body, how=how)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], proxy: ReplayProxy) -> None:
        self.proxy = proxy
        super().__init__(address, _Handler)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Answer nobody but processes of this user: what is shown may be known to nobody else."""
        return isinstance(request, socket.socket) and is_ours(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: a browser ends connections whenever it likes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    server: _Server
    base = ""  # scheme and host inside a tunnel

    def handle_one_request(self) -> None:
        """Answer any method by the same way."""
        self.raw_requestline = self.rfile.readline(1 << 20)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if self.parse_request():
            self._tunnel() if self.command == "CONNECT" else self._take()
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    def _tunnel(self) -> None:
        """Let the browser begin TLS, or HTTP in the clear (WebSockets), with us instead of the host."""
        host = self.path.rpartition(":")[0]
        self.send_response_only(200, "Connection established")
        self.end_headers()
        first = self.connection.recv(1, socket.MSG_PEEK)
        secure = first[:1] == bytes([TLS_HANDSHAKE])
        self.base = ("https://" if secure else "http://") + self.path.removesuffix(":443" if secure else ":80")
        if secure:
            self.connection = self.server.proxy.certificates.context(host).wrap_socket(
                self.connection, server_side=True
            )
            self.rfile, self.wfile = self.connection.makefile("rb"), _Writer(self.connection)  # type: ignore[assignment]
        self.close_connection = False

    def _take(self) -> None:
        target = self.raw_requestline.split()[1].decode("latin-1")  # self.path is not what was sent: // became /
        url = self.base + target if target.startswith("/") and self.base else target
        if not url.startswith(("http://", "https://")):
            self._write(
                _said(200, How.MADE, "osint replay", "This is a proxy. Set it as the browser's HTTP proxy.", "")
            )
            return
        body = self._body()
        if body is None:
            self.close_connection = True
            return
        asked = Asked(method=self.command, url=url, body=body, range=self.headers.get("Range"), origin=self.headers.get("Origin"),
                      wanted=self.headers.get("Access-Control-Request-Headers"), document=self._for_document())  # fmt: skip
        top = self.headers.get("Sec-Fetch-Dest") == "document"
        socket_ = self.headers.get("Upgrade", "").lower() == "websocket"
        answer = self.server.proxy.take(asked, navigates=top, websocket=socket_)
        if answer is None:
            self.close_connection = True
            return
        self._write(answer)

    def _for_document(self) -> bool:
        """Whether it is for a page or a frame; where the address is no secure one the browser says it by another field."""
        return self.headers.get("Sec-Fetch-Dest") in DOCUMENTS or "Upgrade-Insecure-Requests" in self.headers

    def _body(self) -> bytes | None:
        """Read a request's body; None where it is too large."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts, size = [], 0
            while count := int(self.rfile.readline(100).split(b";")[0] or b"0", 16):
                size += count
                if size > BODY_BYTES:
                    return None
                parts.append(self.rfile.read(count))
                self.rfile.readline(3)
            while self.rfile.readline(1 << 16).strip():
                pass
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length) if 0 <= length <= BODY_BYTES else None

    def _write(self, answer: Answer) -> None:
        bodiless = answer.status in (204, 304) or answer.status < 200
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in answer.fields)]
        if not bodiless:
            lines.append(f"Content-Length: {len(answer.body)}")
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))
        if not bodiless and self.command != "HEAD":
            self.wfile.write(answer.body)

    def finish(self) -> None:
        """Close both ends of a tunnel."""
        with suppress(OSError, ssl.SSLError):
            super().finish()
        with suppress(OSError):
            self.connection.close()


class _Writer:
    """Writes whole pieces to a TLS connection."""

    closed = False

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def write(self, data: bytes) -> int:
        self._connection.sendall(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The connection is closed by its handler."""
