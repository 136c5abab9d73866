"""A hard page and the servers behind it: stdlib only, every answer logged with the digest of its decoded payload."""

import gzip
import hashlib
import io
import json
import re
import struct
import threading
import wave
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BIG = bytes(range(256)) * 20_480  # 5 MiB
HUGE = b"0123456789abcdef" * (12 << 16)  # 12 MiB, above what is read in one piece


@dataclass(frozen=True)
class Served:
    """One request as the server saw it, and what it answered; `sha256` is of the payload without any coding."""

    host: str
    method: str
    path: str
    posted: bytes
    status: int
    sha256: str
    cookie: str

    @property
    def url(self) -> str:
        return f"http://{self.host}{self.path}"


def png(red: int) -> bytes:
    """Make a 4x4 picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((red, 0, 0)) * 4 for _ in range(4))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tone(seconds: int) -> bytes:
    """Make a silent WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 8000 * seconds)
    return out.getvalue()


def javascript(text: str) -> tuple[int, str, bytes]:
    return 200, "text/javascript", text.encode()


INDEX = """<!doctype html><html lang=be><meta charset=utf-8><title>working</title>
<link rel=icon href=/favicon.png><link rel=stylesheet href=/style.css>
<style>body{margin:0;width:1280px;height:2000px}pre{white-space:pre-wrap;overflow-wrap:anywhere}</style>
<h1>Старонка</h1><div class=pic></div><img id=a src=/a.png><img id=gone src=/missing.png>
<iframe id=other src="http://localhost:OTHER/frame.html"></iframe>
<audio id=tone preload=auto src=/tone.wav></audio><p id=late></p><pre id=report></pre>
<script src=/app.js></script></html>"""

APP = """
const report = {}, other = 'http://127.0.0.1:OTHER';
const hex = b => [...new Uint8Array(b)].map(x => x.toString(16).padStart(2, '0')).join('');
const digest = async r => r.status + ' ' + r.redirected + ' ' + hex(await crypto.subtle.digest('SHA-256', await r.arrayBuffer()));
const get = async (name, url, options) => { try { report[name] = await digest(await fetch(url, options)); } catch (e) { report[name] = e.name; } };
const told = (name, start) => new Promise(done => { const t = setTimeout(() => { report[name] = 'silent'; done(); }, 8000);
  try { start(value => { clearTimeout(t); report[name] = value; done(); }); } catch (e) { clearTimeout(t); report[name] = e.name; done(); } });
const loaded = (name, element, event, value) => told(name, say => { if (element.complete) say(value()); else element.addEventListener(event, () => say(value())); });
const work = [
  get('get', '/api/get'), get('again', '/api/count', {cache: 'no-store'}), get('post', '/api/post', {method: 'POST', body: 'дадзеныя=1&b=2'}),
  get('binary', '/api/post?binary', {method: 'POST', body: new Uint8Array([0, 255, 128, 10, 13])}),
  get('hops', '/hop1'), get('kept', '/hop307', {method: 'POST', body: 'kept'}), get('big', '/big.bin'), get('huge', '/huge.bin'), get('gzip', '/gzip.json'),
  get('chunked', '/chunked.txt'), get('both', '/gzip-chunked.txt'), get('empty', '/empty'), get('head', '/api/get', {method: 'HEAD'}), get('missing', '/nothing.json'),
  get('failing', '/status/503'), get('preflight', other + '/cors', {method: 'PUT', headers: {'X-Own': '1'}, body: 'put'}), get('partial', '/tone.wav?part', {headers: {Range: 'bytes=10-99'}}),
  get('cookie', '/cookie'),
  told('xhr', say => { const x = new XMLHttpRequest(); x.open('GET', '/api/xhr'); x.onload = () => say(x.status + x.responseText); x.onerror = () => say('error'); x.send(); }),
  told('worker', say => { const w = new Worker('/worker.js'); w.onmessage = e => say(e.data); }),
  told('shared', say => { const w = new SharedWorker('/shared.js'); w.port.onmessage = e => say(e.data); }),
  told('events', say => { let n = ''; const s = new EventSource('/events'); s.onmessage = e => { n += e.data; if (n.length == 3) { s.close(); say(n); } }; }),
  told('frame', say => addEventListener('message', e => e.data.frame && say(e.data.frame))),
  told('service', async say => {
    await navigator.serviceWorker.register('/sw.js', {scope: '/sw/'});
    addEventListener('message', e => e.data.service && say(e.data.service));
    const ready = (await navigator.serviceWorker.getRegistration('/sw/'));
    const worker = ready.installing || ready.waiting || ready.active;
    const go = () => { const f = document.createElement('iframe'); f.src = '/sw/page.html'; document.body.append(f); };
    if (worker.state == 'activated') go(); else worker.addEventListener('statechange', () => worker.state == 'activated' && go());
  }),
  loaded('picture', document.getElementById('a'), 'load', () => document.getElementById('a').naturalWidth),
  loaded('gone', document.getElementById('gone'), 'error', () => document.getElementById('gone').naturalWidth),
  told('tone', say => { const a = document.getElementById('tone'); a.readyState >= 1 ? say(a.duration) : a.addEventListener('loadedmetadata', () => say(a.duration)); }),
];
report.beacon = navigator.sendBeacon('/beacon', 'seen');
Promise.all(work).then(() => { report.style = getComputedStyle(document.querySelector('.pic')).color;
  document.getElementById('late').textContent = 'Толькі са скрыпта';
  document.getElementById('report').textContent = JSON.stringify(report, Object.keys(report).sort()); document.body.dataset.ms = Math.round(performance.now()); document.title = 'done'; });
"""

SERVICE = """
addEventListener('install', e => e.waitUntil((async () => { const c = await caches.open('one'); await c.add('/sw/cached.txt'); await fetch('/from-install'); skipWaiting(); })()));
addEventListener('activate', e => e.waitUntil(clients.claim()));
addEventListener('fetch', e => { const p = new URL(e.request.url).pathname;
  if (p == '/sw/cached.txt') e.respondWith(caches.match(e.request)); else if (p == '/sw/made.txt') e.respondWith(new Response('made')); else e.respondWith(fetch(e.request)); });
"""
CONTROLLED = """<!doctype html><title>sw</title><script>(async () => { const out = [];
for (const p of ['/sw/cached.txt', '/sw/made.txt', '/sw/passed.txt', '/sw/redirected']) { const r = await fetch(p); out.push(r.status + await r.text()); }
parent.postMessage({service: out.join(' ')}, '*'); })();</script>"""
FRAME = """<!doctype html><title>frame</title><img id=i src=/frame.png><script>(async () => { const r = await fetch('/frame.json'); const t = await r.text();
const i = document.getElementById('i'); if (!i.complete) await new Promise(d => i.onload = d); parent.postMessage({frame: t + i.naturalWidth}, '*'); })();</script>"""

FILES: dict[str, tuple[int, str, bytes]] = {
    "/": (200, "text/html; charset=utf-8", INDEX.encode()),
    "/style.css": (200, "text/css", b".pic{background:url(/bg.png);color:rgb(1,2,3);width:9px;height:9px}"),
    "/app.js": javascript(APP),
    "/a.png": (200, "image/png", png(10)),
    "/bg.png": (200, "image/png", png(20)),
    "/favicon.png": (200, "image/png", png(30)),
    "/frame.png": (200, "image/png", png(40)),
    "/frame.html": (200, "text/html", FRAME.encode()),
    "/frame.json": (200, "application/json", b'{"frame": 1}'),
    "/tone.wav": (200, "audio/wav", tone(20)),
    "/api/get": (200, "application/json", b'{"got": true}'),
    "/api/xhr": (200, "text/plain", b"xhr"),
    "/final.json": (200, "application/json", b'{"final": true}'),
    "/big.bin": (200, "application/octet-stream", BIG),
    "/huge.bin": (200, "application/octet-stream", HUGE),
    "/gzip.json": (200, "application/json", b'{"packed": "%s"}' % (b"x" * 50_000)),
    "/chunked.txt": (200, "text/plain", b"chunk " * 9000),
    "/gzip-chunked.txt": (200, "text/plain", b"both " * 9000),
    "/empty": (204, "", b""),
    "/missing.png": (404, "text/html", b"<h1>not here</h1>"),
    "/status/503": (503, "text/plain", b"later"),
    "/hop1": (302, "/hop2", b""),
    "/hop2": (301, "/final.json", b""),
    "/hop307": (307, "/api/post?hopped", b""),
    "/go": (302, "/", b""),
    "/sw/redirected": (302, "/final.json", b""),
    "/cors": (200, "text/plain", b"put done"),
    "/beacon": (200, "text/plain", b"ok"),
    "/worker.js": javascript("fetch('/from-worker').then(r => r.text()).then(postMessage)"),
    "/from-worker": (200, "text/plain", b"worker"),
    "/shared.js": javascript("onconnect = e => fetch('/from-shared').then(r => r.text()).then(t => e.ports[0].postMessage(t))"),
    "/from-shared": (200, "text/plain", b"shared"),
    "/sw.js": javascript(SERVICE),
    "/from-install": (200, "text/plain", b"install"),
    "/sw/page.html": (200, "text/html", CONTROLLED.encode()),
    "/sw/cached.txt": (200, "text/plain", b"cached"),
    "/sw/passed.txt": (200, "text/plain", b"passed"),
    "/file": (200, "application/octet-stream", b"a file"),
    "/events": (200, "text/event-stream", b"data: a\n\ndata: b\n\ndata: c\n\n"),
}  # fmt: skip


class Site:
    """Two servers on 127.0.0.1, the second for what is of another origin; `log` holds every finished answer."""

    def __init__(self, extra: dict[str, tuple[int, str, bytes]] | None = None) -> None:
        self.files = FILES | (extra or {})
        self.log: list[Served] = []
        self.lock = threading.Lock()
        self.hold = threading.Event()  # /hang answers when it is set
        self.hanging = threading.Event()  # it was asked for
        self.counted = 0
        self.servers = [_Server(("127.0.0.1", 0), self) for _ in range(2)]
        self.port, self.other = (server.server_address[1] for server in self.servers)
        self.url = f"http://127.0.0.1:{self.port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        self.site = site
        super().__init__(address, _Answer)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error of the test."""


@contextmanager
def running(extra: dict[str, tuple[int, str, bytes]] | None = None) -> Iterator[Site]:
    """Run the site; `extra` adds paths: (status, content type or Location, body); OTHER in a body is the second port."""
    site = Site(extra)
    threads = [threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05}) for one in site.servers]
    for thread in threads:
        thread.start()
    try:
        yield site
    finally:
        site.hold.set()
        for server, thread in zip(site.servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _answer(self) -> None:
        site, path = self.server.site, self.path.split("?")[0]
        posted = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, kind, body = self._find(site, path, posted)
        head, coded = {"Content-Type": kind}, body
        if 300 <= status < 400 and body == b"":
            head = {"Location": kind}
        if self.command == "OPTIONS":
            status, head, coded, body = 204, {}, b"", b""
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if ranged and path == "/tone.wav":
            first, last = int(ranged[1]), int(ranged[2] or len(body) - 1)
            head["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = 206, body[first : last + 1]
            coded = body
        if "gzip" in path:
            head["Content-Encoding"], coded = "gzip", gzip.compress(body)
        self._send(site, status, head, coded, body, chunked="chunked" in path, posted=posted)

    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = _answer

    def _find(self, site: Site, path: str, posted: bytes) -> tuple[int, str, bytes]:
        if path == "/hang":
            site.hanging.set()
            site.hold.wait(60)
        if path == "/api/post":
            return 200, "application/octet-stream", b"got " + posted
        if path == "/api/count":
            site.counted += 1
            return 200, "text/plain", b"count %d" % 1
        if path == "/cookie":
            return 200, "text/plain", "; ".join(sorted(self.headers.get("Cookie", "").split("; "))).encode()
        status, kind, body = site.files.get(path, (404, "text/plain", b"nothing"))
        if kind.split(";")[0] in ("text/html", "text/javascript"):
            body = body.replace(b"OTHER", str(site.other).encode()).replace(b"SELF", str(site.port).encode())
        return status, kind, body

    def _send(self, site: Site, status: int, head: dict[str, str], coded: bytes, body: bytes, *, chunked: bool, posted: bytes) -> None:  # fmt: skip
        self.send_response(status)
        for name, value in head.items():
            self.send_header(name, value)
        if self.path in ("/", "/go"):
            self.send_header("Set-Cookie", "one=1; Path=/")
            self.send_header("set-cookie", "two=2; Path=/; HttpOnly")
        self.send_header("Access-Control-Allow-Origin", self.headers.get("Origin", "*"))
        self.send_header("Access-Control-Allow-Methods", "PUT")
        self.send_header("Access-Control-Allow-Headers", "X-Own")
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif status != 204:
            self.send_header("Content-Length", str(len(coded)))
        if self.path == "/file":
            self.send_header("Content-Disposition", "attachment; filename=file.bin")
        self.end_headers()
        if self.command == "HEAD":
            coded = body = b""
        for start in range(0, len(coded), 7000) if chunked else ():
            part = coded[start : start + 7000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n" if chunked else coded)
        served = Served(self.headers.get("Host", ""), self.command, self.path, posted, status, hashlib.sha256(body).hexdigest(), self.headers.get("Cookie", ""))  # fmt: skip
        with site.lock:
            site.log.append(served)


def report_in(html_text: str) -> dict[str, object]:
    """Read the page's own report out of its visible text."""
    start = html_text.index('{"again"')
    return json.JSONDecoder().raw_decode(html_text, start)[0]
