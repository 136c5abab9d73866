"""The pool of browsers: what dies is replaced, what was lost is told, nothing is left behind, nothing gets past the guard."""

import asyncio
import base64
import hashlib
import ipaddress
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import UUID

import browsersite
import psutil
import pytest
import torturesite
from browserlab import chromiums, gone, hit, hit_driver, homes, main_ones

from osint_pipeline.fetch.browser import Browser, BrowserCrashed, BrowserLimits
from osint_pipeline.fetch.display import check_display
from osint_pipeline.fetch.guard import Guard
from osint_pipeline.fetch.pool import Pool
from settings.errors import SettingError
from settings.exits import read_exit
from settings.service import load
from storage.exchange import Exchange, RecordRef, RecordType, Resource, Stored
from storage.ids import new_id
from tests.commands import ROOT, Inside, Osint
from tests.proxyserver import Socks
from tests.test_relay import listener

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
GUARD = Guard(allow=(ipaddress.ip_network("127.0.0.1/32"),))
HTML = "text/html; charset=utf-8"


class Archive:
    """A sink that remembers what was recorded of each capture: URLs, ids, and the bodies of what we made."""

    def __init__(self) -> None:
        self.exchanges: dict[UUID, list[tuple[str, UUID]]] = {}
        self.resources: dict[UUID, list[Resource]] = {}

    def exchange(self, exchange: Exchange, capture: UUID) -> RecordRef:
        if isinstance(exchange.response, Stored):
            exchange.response.path.unlink()
        self.exchanges.setdefault(capture, []).append((exchange.url, exchange.record_id))
        return reference(exchange.record_id, RecordType.RESPONSE, exchange.url)

    def resource(self, resource: Resource, capture: UUID) -> RecordRef:
        self.resources.setdefault(capture, []).append(resource)
        return reference(resource.record_id, RecordType.RESOURCE, resource.url)

    def made(self, capture: UUID, kind: str) -> list[dict]:
        """Every JSON resource of a kind (attempt, pageinfo), read."""
        return [json.loads(one.body) for one in self.resources[capture] if one.url.startswith(f"urn:{kind}:")]

    def ids(self, capture: UUID) -> set[UUID]:
        exchanges = {one for _, one in self.exchanges.get(capture, ())}
        return exchanges | {one.record_id for one in self.resources.get(capture, ())}


def reference(record_id: UUID, kind: RecordType, url: str) -> RecordRef:
    return RecordRef(
        record_id=record_id, type=kind, url=url, date="", warc="", offset_bytes=0, length_bytes=0, record_sha256="",
        block_sha256="",
    )  # fmt: skip


def maker(scratch: Path, exit: str | None = None, guard: Guard = GUARD, **bounds: float) -> Callable[[], Browser]:
    """Give what makes a pool's browsers."""
    out = read_exit(exit) if exit else None
    return lambda: Browser(None, guard, scratch=scratch, exit=out, bounds=BrowserLimits(**bounds))  # type: ignore[arg-type]


class Lab:
    """A pool in an event loop of a thread of its own; nothing of it may be left."""

    def __init__(self, folder: Path, pages: int = 2, tries: int = 2, **made: object) -> None:
        self.scratch, self.pages, self.tries, self.made = folder / "scratch", pages, tries, made
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.archive = Archive()
        self.closes_all = not chromiums()  # the module's own lab may be open beside it

    def begin(self, url: str, **more: float):
        """Start a fetch: its capture, and the future of what comes of it."""
        capture = new_id()
        limits = {"timeout_seconds": 30.0, "limit_bytes": 16 << 20, **more}
        work = self.pool.fetch(url, capture, self.archive, **limits)
        return capture, asyncio.run_coroutine_threadsafe(work, self.loop)

    def fetch(self, url: str, **more: float):
        return self.begin(url, **more)[1].result(120)

    async def _open(self) -> None:
        self.pool = await Pool(maker(self.scratch, **self.made), pages=self.pages, tries=self.tries).__aenter__()  # type: ignore[arg-type]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.pool.__aexit__(), self.loop).result(60)

    def __enter__(self):
        self.before = set(homes())
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(10)
        return self

    def __exit__(self, *_) -> None:
        self.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        assert not self.closes_all or gone(chromiums), "a process of Chromium was left"
        assert not list(self.scratch.glob("*")) and set(homes()) <= self.before


@contextmanager
def site(**bodies: str) -> Iterator[browsersite.Site]:
    extra = {f"/{name}": (200, HTML, body.encode()) for name, body in bodies.items()}
    with browsersite.running(extra) as running:
        yield running


def light(number: int) -> str:
    return f"<title>{number}</title><p>page {number}</p><img src=/a.png><img src=/bg.png><script src=/late.js></script>"


LATE = browsersite.javascript("document.body.append('late')")


class Killer(threading.Thread):
    """Kills a Chromium each time that so many pages more were begun, after a moment that a seed decides."""

    def __init__(self, log: list[browsersite.Served], every: int, seed: int) -> None:
        super().__init__()
        self.log, self.every, self.dice = log, every, random.Random(seed)
        self.killed = 0
        self.over = threading.Event()

    def run(self) -> None:
        next_at = self.every
        while not self.over.wait(0.02):
            if sum(one.path.startswith("/page") for one in self.log) < next_at:
                continue
            self.over.wait(self.dice.random() * 0.5)
            if running := main_ones():
                hit(signal.SIGKILL, self.dice.choice(running))
                self.killed += 1
            next_at += self.every


def crawl_under_fire(folder: Path, count: int, every: int, tries: int) -> tuple[int, int]:
    """Fetch pages while Chromium is killed again and again: how many were killed, how many tries were lost."""
    bodies = {f"page{number}": light(number) for number in range(count)}
    with site(**bodies) as served, Lab(folder, tries=tries) as lab:
        served.files["/late.js"] = LATE
        killer = Killer(served.log, every, seed=count)
        killer.start()
        begun = [lab.begin(f"{served.url}/page{number}") for number in range(count)]
        lost = 0
        try:
            for number, (capture, going) in enumerate(begun):
                rendered = going.result(600)
                assert (
                    rendered.text.startswith(f"page {number}")
                    and rendered.main is not None
                    and rendered.failure is None
                )
                assert {one.record_id for one in rendered.records} == lab.archive.ids(capture)
                attempts = lab.archive.made(capture, "attempt")
                info = lab.archive.made(capture, "pageinfo")[-1]  # a try that was lost at its end wrote one too
                assert info["attempt"] == len(attempts) + 1
                assert [one["attempt"] for one in info["lost_attempts"]] == list(range(1, len(attempts) + 1))
                lost += len(attempts)
        finally:
            killer.over.set()
            killer.join()
        return killer.killed, lost


def test_no_page_is_lost_when_chromium_is_killed_again_and_again(tmp_path):
    killed, lost = crawl_under_fire(tmp_path, count=12, every=4, tries=4)
    assert killed >= 2 and lost >= 1


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("pool"), pages=1, tries=1, hung_seconds=3.0) as lab:
        yield lab


class TestReplaced:
    """One pool, and what may become of a browser under a page."""

    def struck(self, lab: Lab, hurt: Callable[[], None]):
        """Fetch a page and do something to its browser while it loads: the capture and what came of it."""
        with site(page="<p>here</p><img src=/hang>") as served:
            capture, going = lab.begin(served.url + "/page")
            assert served.hanging.wait(30)
            hurt()
            assert gone(lambda: not lab.archive.resources.get(capture), 40), "the loss was not told"
            served.hold.set()
            return capture, going.result(60)

    def test_a_killed_browser_is_replaced_and_the_lost_try_is_declared(self, lab):
        capture, rendered = self.struck(lab, lambda: [hit(signal.SIGKILL, one) for one in main_ones()])
        (attempt,), (info,) = lab.archive.made(capture, "attempt"), lab.archive.made(capture, "pageinfo")
        assert rendered.text == "here"
        assert info["lost_attempts"][0]["lost_because"] == attempt["lost_because"] and info["attempt"] == 2
        urls = {str(key): url for url, key in lab.archive.exchanges[capture]}
        paths = [urls[one].rpartition("/")[2] for one in attempt["records"]]
        assert paths in (["page"], ["page", "hang"])  # whether the browser had told of the second is not to be seen
        assert rendered.alterations[0].startswith("the page was asked for again: try 1 was lost (")
        assert {one.record_id for one in rendered.records} == lab.archive.ids(capture)

    def test_a_browser_that_does_not_answer_is_killed_and_replaced(self, lab):
        capture, rendered = self.struck(lab, lambda: [hit(signal.SIGSTOP, one) for one in main_ones()])
        assert rendered.text == "here"
        assert lab.archive.made(capture, "attempt")[0]["lost_because"] == "it did not answer within 3 s"

    @pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.soak)])
    def test_a_driver_that_dies_or_hangs_is_replaced_with_its_browser(self, lab, number):
        capture, rendered = self.struck(lab, partial(hit_driver, number))
        assert rendered.text == "here" and len(lab.archive.made(capture, "attempt")) == 1

    @pytest.mark.soak
    def test_a_page_that_spins_is_kept_as_far_as_it_came_and_its_process_ends(self, lab, monkeypatch):
        monkeypatch.setattr("osint_pipeline.fetch.visit.STEP_SECONDS", 2.0)
        with site(page="<p>here</p><script>onload = () => { for (;;); }</script>", next="<p>next</p>") as served:
            try:
                assert lab.fetch(served.url + "/page", timeout_seconds=3).omissions
            except BrowserCrashed as error:
                assert error.records
            assert gone(chromiums)
            monkeypatch.undo()
            assert lab.fetch(served.url + "/next").text == "next"

    def test_tries_are_bounded_and_every_record_is_named(self, lab):
        with site(page="<p>here</p><img src=/hang>") as served:
            capture, going = lab.begin(served.url + "/page")
            while not going.done():
                if served.hanging.wait(0.1):
                    served.hanging.clear()
                    for one in main_ones():
                        hit(signal.SIGKILL, one)
            with pytest.raises(BrowserCrashed) as crashed:
                going.result()
        assert [one["attempt"] for one in lab.archive.made(capture, "attempt")] == [1, 2]
        assert {one.record_id for one in crashed.value.records} == lab.archive.ids(capture)

    def test_a_resting_browser_is_ended_and_comes_back(self, tmp_path):
        with Lab(tmp_path, 1, idle_seconds=0.2) as lab, site(page="<p>here</p>") as served:
            here = chromiums()
            assert lab.fetch(served.url + "/page").text == "here"
            assert gone(lambda: set(chromiums()) - set(here))
            assert lab.fetch(served.url + "/page").text == "here"

    def test_leaving_the_pool_ends_what_is_under_way(self, tmp_path):
        with Lab(tmp_path) as lab, site(page="<p>here</p><img src=/hang>") as served:
            _, going = lab.begin(served.url + "/page")
            assert served.hanging.wait(30)
            lab.close()
            with pytest.raises(BrowserCrashed):
                going.result(30)


HOLD = """
import asyncio, ipaddress, sys
from pathlib import Path
from osint_pipeline.fetch.browser import Browser
from osint_pipeline.fetch.guard import Guard
from storage.ids import new_id
async def main():
    guard = Guard(allow=(ipaddress.ip_network("127.0.0.1/32"),))
    async with Browser(None, guard, scratch=Path(sys.argv[2])) as browser:
        await browser.fetch(sys.argv[1], new_id(), None, timeout_seconds=100, limit_bytes=1 << 20)
asyncio.run(main())
"""


@pytest.mark.parametrize("hung", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_chromium_ends_with_a_process_that_is_killed(tmp_path, hung):
    with site(page="<img src=/hang>") as served:
        command = [sys.executable, "-c", HOLD, served.url + "/page", str(tmp_path)]
        ours = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        assert served.hanging.wait(60)
        left = chromiums(ours.pid)
        assert left
        for one in left if hung else ():
            hit(signal.SIGSTOP, one)
        os.kill(ours.pid, signal.SIGKILL)
        ours.wait()
        begun = time.monotonic()
        assert gone(lambda: [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 20)
        assert time.monotonic() - begun < 10  # 30 s where only Chromium's driver looks after it
    assert gone(lambda: homes(ours.pid))


LEAVES = """<p id=o></p><script>(async () => {
document.cookie = 'seen=1; max-age=9999'; localStorage.seen = '1'; await (await caches.open('seen')).put('/seen', new Response('1'));
await new Promise(done => { const r = indexedDB.open('seen'); r.onsuccess = done; });
await navigator.serviceWorker.register('/keeper.js', {scope: '/'}); await navigator.serviceWorker.ready; await (await fetch('/kept.txt')).text();
document.getElementById('o').textContent = 'left'; })()</script>"""
SEES = """<p id=o></p><script>(async () => { const out = [document.cookie, localStorage.length, (await caches.keys()).length, (await indexedDB.databases()).length,
(await navigator.serviceWorker.getRegistrations()).length, !!navigator.serviceWorker.controller]; await (await fetch('/kept.txt')).text();
document.getElementById('o').textContent = out.join(' '); })()</script>"""


def test_nothing_that_a_page_leaves_is_seen_by_the_next_of_its_source_or_by_another_source(tmp_path):
    with site(leaves=LEAVES, sees=SEES) as served:
        worker = "onfetch = e => 0; oninstall = () => skipWaiting(); onactivate = e => e.waitUntil(clients.claim())"
        served.files["/keeper.js"] = browsersite.javascript(worker)
        served.files["/kept.txt"] = (200, "text/plain", b"kept")
        with Lab(tmp_path, 1) as one:
            texts = [one.fetch(served.url + path).text for path in ("/leaves", "/sees")]
        with Lab(tmp_path, 1) as other:
            texts.append(other.fetch(served.url + "/sees").text)
        assert texts == ["left", "0 0 0 0 false", "0 0 0 0 false"]
        assert sum(one.path == "/kept.txt" for one in served.log) == 3  # none is taken from a cache
        assert {one.cookie for one in served.log if one.path in ("/leaves", "/sees")} == {""}


class Inner:
    """Where nothing may arrive: TCP and UDP on one port of 127.0.0.2."""

    def __enter__(self):
        self.tcp = socket.create_server(("127.0.0.2", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.2", self.port))
        for one in (self.tcp, self.udp):
            one.setblocking(False)
        return self

    def __exit__(self, *_) -> None:
        self.tcp.close()
        self.udp.close()

    def untouched(self) -> bool:
        with pytest.raises(BlockingIOError):
            self.tcp.accept()
        with pytest.raises(BlockingIOError):
            self.udp.recv(100)
        return True


WAYS = """<link rel=preconnect href="http://HOST:PORT/1"><link rel=prefetch href="http://HOST:PORT/2"><link rel=dns-prefetch href="//HOST:PORT">
<link rel=preload as=image href="http://HOST:PORT/3"><link rel=modulepreload href="http://HOST:PORT/4"><script type=speculationrules>{"prerender": [{"urls": ["http://HOST:PORT/5"], "eagerness": "immediate"}], "prefetch": [{"urls": ["http://HOST:PORT/6"], "eagerness": "immediate"}]}</script>
<img src="http://HOST:PORT/7"><img src=/away><iframe src="http://HOST:PORT/8"></iframe><video src="http://HOST:PORT/9"></video><object data="http://HOST:PORT/10"></object>
<iframe name=f></iframe><a id=down download target=f href="http://HOST:PORT/11"></a><a id=ping target=f ping="http://HOST:PORT/12" href="/empty"></a><p id=o></p><script>(async () => { const out = [];
const tell = (name, work) => Promise.race([work, new Promise(done => setTimeout(done, 4000, 'silent'))]).then(said => out.push(name + ' ' + said), () => out.push(name + ' refused'));
const u = 'http://HOST:PORT/';
document.getElementById('ping').click(); document.getElementById('down').click(); navigator.sendBeacon(u + 'beacon', 'x');
await Promise.all([
 tell('fetch', fetch(u, {mode: 'no-cors'}).then(() => 'reached')),
 tell('redirect', fetch('/away', {mode: 'no-cors'}).then(() => 'reached')),
 tell('socket', new Promise((yes, no) => { const s = new WebSocket('ws://HOST:PORT/'); s.onopen = () => yes('reached'); s.onerror = no; })),
 tell('events', new Promise((yes, no) => { const s = new EventSource(u); s.onopen = () => yes('reached'); s.onerror = no; })),
 tell('turn', new Promise(yes => { const p = new RTCPeerConnection({iceServers: [{urls: ['stun:HOST:PORT', 'turn:HOST:PORT?transport=tcp', 'turn:HOST:PORT?transport=udp'], username: 'a', credential: 'b'}]});
   p.createDataChannel('x'); p.onicegatheringstatechange = () => p.iceGatheringState == 'complete' && yes('refused'); p.createOffer().then(o => p.setLocalDescription(o)); })),
 tell('worker', new Promise((yes, no) => { const w = new Worker(URL.createObjectURL(new Blob(['fetch("' + u + '", {mode: "no-cors"}).then(() => postMessage(1), () => postMessage(0))']))); w.onmessage = e => e.data ? yes('reached') : no(); })),
 tell('service', (async () => { const r = await navigator.serviceWorker.register('/inner.js'); await navigator.serviceWorker.ready;
   return new Promise((yes, no) => { navigator.serviceWorker.onmessage = e => e.data ? yes('reached') : no(); r.active.postMessage(u); }); })()),
]);
document.getElementById('o').textContent = out.sort().join(', '); })()</script>"""
TOLD = "events refused, fetch refused, redirect refused, service refused, socket refused, turn refused, worker refused"
INNER_WORKER = "onmessage = e => e.waitUntil(fetch(e.data, {mode: 'no-cors'}).then(() => e.source.postMessage(1), () => e.source.postMessage(0)))"


def all_ways(host: str, port: int) -> dict[str, tuple[int, str, bytes]]:
    return {
        "/ways": (200, HTML, WAYS.replace("HOST", host).replace("PORT", str(port)).encode()),
        "/away": (302, f"http://{host}:{port}/moved", b""),
        "/inner.js": browsersite.javascript(INNER_WORKER),
    }


def test_no_way_leads_to_an_address_that_may_not_be_reached(tmp_path):
    with Inner() as inner, browsersite.running(all_ways("127.0.0.2", inner.port)) as served, Lab(tmp_path, 1) as lab:
        rendered = lab.fetch(served.url + "/ways")
        assert inner.untouched()
        (browser,) = lab.pool._all
        assert {one.address for one in browser.relay.refused} == {"127.0.0.2"}
    assert rendered.text.strip() == TOLD
    assert any("refused, 127.0.0.2" in one for one in rendered.omissions)


def test_a_name_whose_answer_changes_is_checked_at_each_connection(tmp_path, monkeypatch):
    """The relay asks once for each connection, and dials the address that it checked."""
    answers, real = [], socket.getaddrinfo

    def changing(host, port, *more, **others):
        if host != "changing.example":
            return real(host, port, *more, **others)
        answers.append("127.0.0.1" if not answers else "127.0.0.2")
        return real(answers[-1], port, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    with Inner() as inner, browsersite.running() as served, Lab(tmp_path, 1) as lab:
        # "changing.example" is its site at the first answer; the other port makes a second connection
        body = WAYS.replace("HOST", "changing.example").replace("PORT", str(inner.port))
        served.files |= {
            "/ways": (200, HTML, body.encode()),
            "/away": (302, f"http://changing.example:{inner.port}/", b""),
        }
        served.files["/inner.js"] = browsersite.javascript(INNER_WORKER)
        rendered = lab.fetch(f"http://changing.example:{served.port}/ways")
        assert inner.untouched()
        (browser,) = lab.pool._all
        assert {one.host for one in browser.relay.refused} == {"changing.example"}
        assert browser.relay.addresses == {("changing.example", served.port): "127.0.0.1"}
    assert answers[0] == "127.0.0.1" and len(answers) > 5
    assert "reached" not in rendered.text and "fetch refused" in rendered.text


def test_through_an_exit_names_are_the_proxys_and_literal_private_addresses_are_refused(tmp_path):
    with (
        Inner() as inner,
        browsersite.running(all_ways("127.0.0.2", inner.port)) as served,
        Socks(hosts={"watched.example": "127.0.0.1"}) as proxy,
        Lab(tmp_path, 1, exit=f"socks5://127.0.0.1:{proxy.port}", guard=Guard()) as lab,
    ):
        rendered = lab.fetch(f"http://watched.example:{served.port}/ways")
        assert inner.untouched()
    assert {one[1] for one in proxy.asked} == {"watched.example"}
    assert "reached" not in rendered.text and "fetch refused" in rendered.text


def test_a_page_that_asks_for_ever_is_held_to_its_number_of_requests(tmp_path):
    body = """<script>(async () => { let failed = 0; for (let i = 0; failed < 3; i++) await fetch('/a.png?' + i).catch(() => failed++);
    const f = document.createElement('iframe'); f.src = '/b.html'; document.body.append(f); })()</script>"""
    with site(page=body) as served, Lab(tmp_path, 1, requests=20) as lab:
        capture, going = lab.begin(served.url + "/page")
        rendered = going.result(60)
        sent = len(served.log)
    assert rendered.main is not None and 20 <= sent <= 24  # those that were on their way when the limit was reached
    assert len(lab.archive.exchanges[capture]) == sent
    assert "the limit of 20 requests was reached: no more were sent" in rendered.omissions
    (info,) = lab.archive.made(capture, "pageinfo")
    assert len(info["resources"]) == sent


class Sockets:
    """A server of one page and of WebSockets that are opened and say nothing: how many were."""

    def __init__(self, page: str) -> None:
        self.page, self.opened = page.encode(), 0
        self.lock = threading.Lock()

    def answer(self, connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (some := connection.recv(4096)):
                return
            head += some
        if b"Sec-WebSocket-Key: " not in head:
            form = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            return connection.sendall(form % (len(self.page), self.page))
        with self.lock:
            self.opened += 1
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        proof = base64.b64encode(hashlib.sha1(key + torturesite.SOCKET_GUID).digest())
        form = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
        with suppress(OSError):  # the page may have gone on; it may also stay for longer than a connection has
            connection.sendall(form % proof)
            while connection.recv(4096):
                pass


MANY_SOCKETS = """<p id=o></p><script>let over = 0;
const open = i => { const s = new WebSocket(`ws://${location.host}/${i}`); s.onopen = () => told('opened'); s.onerror = () => told('failed'); };
const seen = {}, told = what => { seen[what] = (seen[what] || 0) + 1; o.textContent = JSON.stringify(seen); };
LOOP
fetch('/after').then(r => r.text()).then(() => told('after')).catch(() => told('refused'))</script>"""


LOOPS = {
    "at once": "for (let i = 0; i < 10000; i++) open(i);",
    "one after the other": "(async () => { for (let i = 0; i < 200; i++) { open(i); await new Promise(done => setTimeout(done, 5)); } })();",
    "in a worker": """new Worker(URL.createObjectURL(new Blob([`for (let i = 0; i < 10000; i++) { const s = new WebSocket('ws://${location.host}/' + i);
        s.onopen = () => postMessage('opened'); s.onerror = () => postMessage('failed'); }`]))).onmessage = e => told(e.data);""",
}


@pytest.mark.parametrize(
    "how", ["at once", *(pytest.param(one, marks=pytest.mark.soak) for one in LOOPS if one != "at once")]
)
def test_a_page_that_opens_websockets_for_ever_is_held_to_its_number_of_requests(tmp_path, how):
    server = Sockets(MANY_SOCKETS.replace("LOOP", LOOPS[how]))
    with listener(server.answer) as port, Lab(tmp_path, 1, requests=20) as lab:
        capture, going = lab.begin(f"http://127.0.0.1:{port}/page")
        rendered = going.result(60)
    told = json.loads(rendered.text or "{}")  # a busy page may not have said anything yet
    assert told.get("opened", 0) <= server.opened <= 20 + 255  # so many Chromium opens at a time
    assert "the limit of 20 requests was reached: no more were sent" in rendered.omissions
    assert any(one.startswith("a WebSocket beyond the limit of requests") for one in rendered.omissions)
    records = [one for one in lab.archive.resources[capture] if one.url.startswith("urn:websocket:")]
    untold = sum(int(one.split()[0]) for one in rendered.omissions if "did not tell whether they were sent" in one)
    assert server.opened - untold <= len(records) <= server.opened + 20  # of thousands that were refused none is kept
    assert len(rendered.omissions) < 50


class Meeting:
    """A server that answers two pages only when both were asked for."""

    def __init__(self) -> None:
        self.both = threading.Barrier(2)
        self.met = False

    def answer(self, connection: socket.socket) -> None:
        asked = connection.recv(4096)
        if b"/meet" in asked.partition(b"\r\n")[0]:
            with suppress(threading.BrokenBarrierError):
                self.both.wait(40)
                self.met = True
        body = b"<title>met</title><p>" + b"They were taken away from the square in the evening. " * 12
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )


def test_a_crawl_renders_as_many_pages_at_once_as_is_set_and_leaves_no_process(tmp_path):
    meeting = Meeting()
    with listener(meeting.answer) as port:
        osint = Osint(tmp_path / "home", OSINT_BROWSER_PAGES="2", OSINT_ROBOTS="ignore:a test")
        urls = "\n".join(f"http://127.0.0.1:{port}/meet{number}" for number in (1, 2))
        words = ("crawl", "--spider", "page", "--render", "always", "--no-upload", "--json", "-")
        rows = [json.loads(line) for line in osint.run(*words, given=urls).stdout.splitlines()]
        osint.run("down")
    assert [(row["outcome"], row["captured"]) for row in rows] == [("complete", 2)], rows
    assert meeting.met


def test_a_window_without_a_screen_is_said_clearly(tmp_path):
    away = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "OSINT_HEADED": ""}
    done = Inside(tmp_path, **away).run("crawl", "--headed", "http://127.0.0.1:9/", code=2)
    assert "neither DISPLAY nor WAYLAND_DISPLAY is set" in done.stderr
    done = Inside(tmp_path, **away | {"OSINT_HEADED": "yes"}).run("crawl", "http://127.0.0.1:9/", code=2)
    assert "xvfb-run" in done.stderr
    with pytest.raises(SettingError, match="OSINT_HEADED"):
        load({"HOME": str(tmp_path), "OSINT_HEADED": "perhaps"})
    check_display({"DISPLAY": ":0"})


@pytest.mark.soak
def test_a_hundred_pages_under_fire(tmp_path):
    killed, lost = crawl_under_fire(tmp_path, count=100, every=5, tries=6)
    print(f"100 pages: {killed} browsers killed, {lost} tries lost, no page lost")
    assert killed >= 15


@pytest.mark.soak
def test_the_memory_of_a_thousand_pages_is_flat(tmp_path):
    with site(**{f"page{number}": light(number) for number in range(1000)}) as served, Lab(tmp_path) as lab:
        served.files["/late.js"] = LATE
        ours, theirs = [], []
        begun = time.monotonic()
        for start in range(0, 1000, 50):
            going = [lab.begin(f"{served.url}/page{number}")[1] for number in range(start, start + 50)]
            assert all(one.result(600).main for one in going)
            served.log.clear()
            lab.archive.exchanges.clear()
            lab.archive.resources.clear()
            ours.append(psutil.Process().memory_full_info().uss / 1e6)
            theirs.append(sum(uss_of(one) for one in psutil.Process().children(recursive=True)) / 1e6)
            print(f"{start + 50} pages: ours {ours[-1]:.0f} MB, the browsers' {theirs[-1]:.0f} MB", flush=True)
        print(f"1,000 pages in {time.monotonic() - begun:.0f} s")
    assert ours[-1] - ours[3] < 30 and max(theirs[10:]) < 1.25 * max(theirs[:10])


def uss_of(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return process.memory_full_info().uss
    return 0
