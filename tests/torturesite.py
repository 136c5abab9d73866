"""A torture page and its servers: three ports of 127.0.0.1 that log each request with what they answered. stdlib and brotli only.

The page lies in tests/torture/. SELF, OTHER, THIRD and FREE in its texts are ports; on FREE nobody listens.
"""

import base64
import gzip
import hashlib
import json
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import brotli
from browsersite import png, tone

PAGES = Path(__file__).parent / "torture"
TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript", "css": "text/css", "json": "application/json"}
SCRIPTS = 80
HUGE_BYTES = 30 << 20
WASM = bytes.fromhex("0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b")
HOPS = {
    "/hop/1": (302, "/hop/2"),
    "/hop/2": (301, "/hop/3"),
    "/hop/3": (308, "/api/final"),
    "/hop/307": (307, "/api/post?hopped"),
    "/hop/far": (302, "http://localhost:OTHER/cors"),
    "/hop/a": (303, "/img/hopped.png"),
    "/go": (302, "/go/on"),
    "/go/on": (301, "/"),
    "/sw/redirected": (302, "/api/final"),
}
REDIRECTING = (301, 302, 303, 307, 308)
CODINGS = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}
SOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ENDLESS_SECONDS = 20.0


@dataclass(frozen=True)
class Served:
    """One request as the server saw it and its answer: `body` without any coding; `whole` is False where it broke off or nobody may have read on."""

    url: str
    method: str
    posted: bytes
    status: int
    body: bytes
    whole: bool = True

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass
class Socket:
    """One WebSocket: messages in order, (direction as the browser sees it, opcode, payload)."""

    url: str
    messages: list[tuple[str, int, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: bytes
    head: tuple[tuple[str, str], ...] = ()
    framing: str = "length"  # or chunked, close
    coding: str = ""


class Site:
    """`log` holds the answers given, `sockets` the WebSockets."""

    def __init__(self) -> None:
        self.log: list[Served] = []
        self.sockets: list[Socket] = []
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.idle = threading.Condition()
        self.under_way = 0
        self.counted = 0
        self.servers = [_Server(("127.0.0.1", 0), self) for _ in range(3)]
        ports = [server.server_address[1] for server in self.servers]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.ports = dict(zip(("SELF", "OTHER", "THIRD", "FREE"), [*ports, free.getsockname()[1]], strict=True))
        self.url = f"http://127.0.0.1:{self.ports['SELF']}"
        self.huge = bytes(range(251)) * (HUGE_BYTES // 251 + 1)
        self.huge = self.huge[:HUGE_BYTES]
        self.media = {"/media/tone.wav": tone(20), "/media/film.wav": tone(300)}

    def filled(self, text: str) -> str:
        return re.sub("SELF|OTHER|THIRD|FREE", lambda found: str(self.ports[found[0]]), text)

    def served(self, served: Served) -> None:
        with self.lock:
            self.log.append(served)

    def settle(self) -> None:
        """Wait until no answer is being given any more."""
        with self.idle:
            assert self.idle.wait_for(lambda: self.under_way == 0, ENDLESS_SECONDS + 5)

    def taken(self) -> tuple[list[Served], list[Socket]]:
        """What was logged so far; the log begins anew."""
        with self.lock:
            log, self.log, sockets, self.sockets = self.log, [], self.sockets, []
            self.counted = 0
        return log, sockets


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 200

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        self.site = site
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error of the test."""


@contextmanager
def running() -> Iterator[Site]:
    """Run the servers."""
    site = Site()
    threads = [threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05}) for one in site.servers]
    for thread in threads:
        thread.start()
    try:
        yield site
    finally:
        site.over.set()
        for server, thread in zip(site.servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def report_in(text: str) -> dict[str, object]:
    """Read the page's own report out of its visible text."""
    return json.JSONDecoder().raw_decode(text, text.index('{"404"'))[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _answer(self) -> None:
        site = self.server.site
        with site.idle:
            site.under_way += 1
        try:
            self._serve()
        finally:
            with site.idle:
                site.under_way -= 1
                site.idle.notify_all()

    def _serve(self) -> None:
        site, path = self.server.site, urlsplit(self.path).path
        self.url = f"http://{self.headers['Host']}{self.path}"
        self.posted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/socket":
            return _talk(self, site)
        if path in ("/reset", "/cut.bin"):
            return self._break(path)
        if path in ("/endless.txt", "/events/open"):
            return self._go_on(path)
        self._send(self._find(site, path))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _answer

    def _log(self, status: int, body: bytes, whole: bool = True) -> None:
        self.server.site.served(Served(self.url, self.command, self.posted, status, body, whole))

    def _find(self, site: Site, path: str) -> Answer:
        if self.command == "OPTIONS":
            allowed = (("Access-Control-Allow-Methods", "PUT"), ("Access-Control-Allow-Headers", "X-Own"))
            return Answer(204 if "cors" in path else 200, "text/plain", b"" if "cors" in path else b"options", allowed)
        if path in HOPS:
            status, place = HOPS[path]
            return Answer(status, "text/html", b"moved from " + path.encode(), (("Location", site.filled(place)),))
        if path in site.media:
            return self._ranged(site.media[path])
        for found in (_file(site, path), _plain(site, path, self.posted), self._made(site, path)):
            if found is not None:
                return found
        return Answer(404, "text/plain", b"nothing at " + path.encode())

    def _made(self, site: Site, path: str) -> Answer | None:
        if path == "/api/count":
            with site.lock:
                site.counted += 1
                return Answer(200, "text/plain", b"count %d" % site.counted)
        if path == "/api/cookie":
            return Answer(200, "text/plain", "; ".join(sorted(self.headers.get("Cookie", "").split("; "))).encode())
        if path == "/api/etag":
            same = self.headers.get("If-None-Match") == '"one"'
            return Answer(304 if same else 200, "text/plain", b"" if same else b"tagged", (("ETag", '"one"'),))
        return None

    def _ranged(self, body: bytes) -> Answer:
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not found:
            return Answer(200, "audio/wav", body, (("Accept-Ranges", "bytes"),))
        first = int(found[1]) if found[1] else len(body) - int(found[2])
        last = min(int(found[2]), len(body) - 1) if found[1] and found[2] else len(body) - 1
        if first >= len(body):
            return Answer(416, "text/plain", b"", (("Content-Range", f"bytes */{len(body)}"),))
        return Answer(206, "audio/wav", body[first : last + 1], (("Content-Range", f"bytes {first}-{last}/{len(body)}"), ("Accept-Ranges", "bytes")))  # fmt: skip

    def _send(self, answer: Answer) -> None:
        body = CODINGS[answer.coding](answer.body) if answer.coding else answer.body
        self._begin(answer, len(body))
        sent = b"" if self.command == "HEAD" else body
        try:
            if answer.framing == "chunked":
                for start in range(0, len(sent), 4000):
                    self._chunk(sent[start : start + 4000])
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(sent)
        except OSError:
            return self._log(answer.status, answer.body, whole=False)
        self._log(answer.status, b"" if self.command == "HEAD" else answer.body)

    def _begin(self, answer: Answer, length: int) -> None:
        self.send_response(answer.status)
        for name, value in answer.head:
            self.send_header(name, value)
        if answer.kind:
            self.send_header("Content-Type", answer.kind)
        if answer.coding:
            self.send_header("Content-Encoding", answer.coding)
        if self.path in ("/", "/go"):
            self.send_header("Set-Cookie", "one=1; Path=/")
            self.send_header("set-cookie", "two=2; Path=/; HttpOnly")
        if "forbidden" not in self.path:
            self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
        if answer.framing == "length" and answer.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        elif answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.framing == "close":
            self.send_header("Connection", "close")
        self.end_headers()

    def _chunk(self, part: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def _break(self, path: str) -> None:
        self.close_connection = True
        if path == "/reset":
            return self._log(0, b"", whole=False)
        self._begin(Answer(200, "application/octet-stream", b""), 100_000)
        self.wfile.write(bytes(50_000))
        self._log(200, bytes(50_000), whole=False)

    def _go_on(self, path: str) -> None:
        site, sent, ends = self.server.site, b"", time.monotonic() + ENDLESS_SECONDS
        events = path == "/events/open"
        self._begin(Answer(200, "text/event-stream" if events else "text/plain", b"", framing="chunked"), 0)
        try:
            while time.monotonic() < ends and not site.over.is_set():
                part = b": still here\n\n" if events else b"and so on and on\n" * 100
                part = b"data: b\n\n" * (len(sent) < 20) or part if events else part
                self._chunk(part)
                sent += part
                site.over.wait(0.1)
        except OSError:
            self.close_connection = True
        self._log(200, sent, whole=False)


def _file(site: Site, path: str) -> Answer | None:
    file = PAGES / ("index.html" if path == "/" else path.lstrip("/"))
    kind = TYPES.get(file.suffix.lstrip("."))
    if kind is None or not file.is_file():
        return None
    text = site.filled(file.read_text("utf-8"))
    if path == "/":
        text = text.replace("SCRIPTS", "\n".join(f"<script src=/s/{number}.js></script>" for number in range(SCRIPTS)))
    return Answer(200, kind, text.encode(), coding="gzip" if path == "/app.js" else "")


def _plain(site: Site, path: str, posted: bytes) -> Answer | None:
    """The answers that depend on nothing but path and posted bytes."""
    if re.fullmatch(r"/s/\d+\.js", path):
        return Answer(200, "text/javascript", b"counted++; // %s\n" % path.encode())
    if path.endswith(".png") and "gone" not in path:
        return Answer(200, "image/png", png(zlib.crc32(path.encode()) % 251))
    if match := re.fullmatch(r"/(coded|chunked)/(gzip|deflate|br)\.\w+", path):
        body = f"{path} ".encode() * 4000
        return Answer(
            200, "text/plain", body, framing="chunked" if match[1] == "chunked" else "length", coding=match[2]
        )
    if path in ("/api/404", "/api/503"):
        return Answer(int(path[-3:]), "text/plain", b"status " + path[-3:].encode())
    if path == "/api/post":
        return Answer(200, "application/octet-stream", b"got " + posted)
    if path == "/api/length":  # a form's boundary is random
        return Answer(200, "text/plain", b"%d" % (len(posted) // 100))
    return FIXED.get(path) or (Answer(200, "application/octet-stream", site.huge) if path == "/huge.bin" else None)


FIXED = {
    "/api/get": Answer(200, "application/json", b'{"got": true}'),
    "/api/xhr": Answer(200, "text/plain", b"xhr"),
    "/api/sync": Answer(200, "text/plain", b"sync"),
    "/api/bytes": Answer(200, "application/octet-stream", bytes(range(256)) * 40),
    "/api/final": Answer(200, "application/json", b'{"final": true}'),
    "/api/fresh": Answer(200, "text/plain", b"fresh", (("Cache-Control", "max-age=3600"),)),
    "/api/form": Answer(200, "text/html", b"<script>parent.postMessage({say: 'posted', value: 1}, '*')</script>"),
    **{f"/api/{method}": Answer(200, "text/plain", method.encode()) for method in ("PUT", "PATCH", "DELETE")},
    "/cors": Answer(200, "text/plain", b"put done"),
    "/orb.json": Answer(200, "application/json", b'{"for": "no picture"}', (("X-Content-Type-Options", "nosniff"),)),
    "/opaque.txt": Answer(200, "text/plain", b"opaque"),
    "/forbidden.txt": Answer(200, "text/plain", b"the page may not read this"),
    "/chunked.txt": Answer(200, "text/plain", b"chunk " * 9000, framing="chunked"),
    "/stream.txt": Answer(200, "text/plain", b"stream" * 50_000, framing="chunked"),
    "/unlengthed.txt": Answer(200, "text/plain", b"until the end " * 500, framing="close"),
    "/empty": Answer(204, "", b""),
    "/nothing": Answer(200, "text/plain", b""),
    "/big.bin": Answer(200, "application/octet-stream", bytes(range(256)) * 20_480),
    "/add.wasm": Answer(200, "application/wasm", WASM),
    "/beacon": Answer(200, "text/plain", b"seen by the server"),
    "/keepalive": Answer(200, "text/plain", b"kept alive"),
    "/prefetched.txt": Answer(200, "text/plain", b"prefetched", (("Cache-Control", "max-age=3600"),)),
    "/late.js": Answer(200, "text/javascript", b"// late\n"),
    "/written.js": Answer(200, "text/javascript", b"self.written = 'written';"),
    "/font.woff2": Answer(200, "font/woff2", b"wOF2 but no font" * 100),
    "/img/source.svg": Answer(200, "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>'),
    "/media/words.vtt": Answer(200, "text/vtt", b"WEBVTT\n\n00:00.000 --> 00:10.000\nwords\n"),
    "/events": Answer(200, "text/event-stream", b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nevent: end\ndata: c\n\n", framing="chunked"),
    **{f"/work/{name}.txt": Answer(200, "text/plain", name.encode()) for name in ("a", "b", "xhr", "inner", "module", "shared")},
    "/work/from-blob": Answer(200, "text/plain", b"from blob"),
    **{f"/sw/{name}.txt": Answer(200, "text/plain", name.encode()) for name in ("cached", "install", "activate", "behind", "passed", "untouched")},
}  # fmt: skip


def _talk(handler: _Handler, site: Site) -> None:
    """Be an echoing WebSocket server (RFC 6455), one frame a message, until the browser closes."""
    key = handler.headers["Sec-WebSocket-Key"].encode()
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + SOCKET_GUID).digest()).decode())
    if handler.headers.get("Sec-WebSocket-Protocol"):
        handler.send_header("Sec-WebSocket-Protocol", "own")
    handler.end_headers()
    handler.close_connection = True
    one = Socket(handler.url.replace("http:", "ws:"))
    with site.lock:
        site.sockets.append(one)
    while True:
        opcode, payload = _frame(handler)
        one.messages.append(("sent", opcode, payload))
        reply = bytes((0x80 | opcode, *_length(len(payload)))) + payload
        handler.wfile.write(reply)
        if opcode == 8:
            return
        one.messages.append(("received", opcode, payload))


def _length(count: int) -> bytes:
    return bytes((count,)) if count < 126 else struct.pack(">BH", 126, count) if count < 1 << 16 else struct.pack(">BQ", 127, count)  # fmt: skip


def _frame(handler: _Handler) -> tuple[int, bytes]:
    """Read one message; its frames are masked and may be several."""
    opcode, whole, last = 0, b"", False
    while not last:
        first, second = handler.rfile.read(2)
        last, opcode, count = bool(first & 0x80), opcode or first & 15, second & 127
        if count > 125:
            count = int.from_bytes(handler.rfile.read(2 if count == 126 else 8), "big")
        mask = handler.rfile.read(4)
        data = handler.rfile.read(count)
        whole += (int.from_bytes(data, "big") ^ int.from_bytes((mask * (count // 4 + 1))[:count], "big")).to_bytes(count, "big")  # fmt: skip
    return opcode, whole
