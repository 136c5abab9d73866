"""Captures are shown from the archive alone: as they were seen live, or with a figure that says how far from it."""

import asyncio
import http.client
import io
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil
import pytest
from browserlab import chromiums, gone, hit, homes, main_ones
from PIL import Image, ImageDraw
from sqlalchemy import text

from osint_pipeline.replay.alike import most_alike, plain
from osint_pipeline.replay.answer import Answer
from osint_pipeline.replay.browser import Look, ReplayBrowser, View
from osint_pipeline.replay.certificate import Certificates
from osint_pipeline.replay.check import check_recent, check_sample
from osint_pipeline.replay.compare import Likeness, resources, score, text_ratio, unexplained
from osint_pipeline.replay.live import live_of
from osint_pipeline.replay.proxy import ReplayProxy, Seen
from osint_pipeline.replay.recorded import Asked, How, Recorded
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.records import payload, read_record
from tests import browsersite
from tests.commands import Inside, Osint
from tests.rawserver import self_signed

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
HTML = "text/html; charset=utf-8"
NEWS = """<!doctype html><html lang=be><meta charset=utf-8><title>Навіны</title><link rel=icon href=data:,>
<style>body{font:20px sans-serif;margin:2em;background:#eef}img{width:400px;height:300px}</style>
<h1>Затрымалі траіх</h1><p>%s</p><img src=/one.png><img src=/two.png><p id=late></p>
<div id=rest></div><button onclick="fetch('/api/xhr').then(r => r.text()).then(t => { this.remove();
document.getElementById('rest').textContent = 'яшчэ адзін тэкст ' + t; })">Паказаць яшчэ</button><script>(async () => {
const said = await (await fetch('/api/post', {method: 'POST', body: 'дадзеныя=1'})).text();
const part = await fetch('/tone.wav?x', {headers: {Range: 'bytes=10-99'}});
const again = [await (await fetch('/api/count', {cache: 'no-store'})).text(), await (await fetch('/api/get')).text()];
document.getElementById('late').textContent = [said, part.status, (await part.arrayBuffer()).byteLength, ...again].join(' '); })()</script>
"""
CLOCK = """<!doctype html><meta charset=utf-8><title>гадзіннік</title><link rel=icon href=data:,><h1>Старонка з гадзіннікам</h1>
<p>гэты тэкст стаіць тут заўсёды</p><img src=/same.png><img src="http://127.0.0.1:TRAP/leak.png"><img id=stamp><p id=now></p><script>
document.getElementById('stamp').src = '/stamp.png?t=' + Date.now();
document.getElementById('now').textContent = Array.from({length: 10}, () => Date.now() + '' + Math.random()).join(' ');</script>"""
SECURE = """<!doctype html><meta charset=utf-8><title>secure</title><link rel=icon href=data:,><h1>Бяспечная</h1><img src=/one.png>
<p id=o></p><script>fetch('/api/get').then(r => r.text()).then(t => document.getElementById('o').textContent =
t + ' ' + isSecureContext)</script>"""


def picture(red: int) -> bytes:
    """Draw something that has a hash of its own."""
    image = Image.new("RGB", (400, 300), (red, 40, 90))
    draw = ImageDraw.Draw(image)
    for place in range(0, 400, 25):
        draw.rectangle((place, (place * red) % 300, place + 12, 300), fill=(255 - red, place % 256, red))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


PAGES = {
    "/news": (200, HTML, (NEWS % ("слова " * 200)).encode()),
    "/secure": (200, HTML, SECURE.encode()),
    "/one.png": (200, "image/png", picture(200)),
    "/two.png": (200, "image/png", picture(70)),
    "/same.png": (200, "image/png", picture(200)),
    "/stamp.png": (200, "image/png", picture(120)),
}


@dataclass
class Place:
    """An archive of three captured pages whose servers are gone."""

    osint: Inside
    captures: dict[str, str]
    urls: dict[str, str]
    trap: socket.socket  # what a captured page asks for, and nobody may

    def check(self, name: str, *words: str, code: int = 0) -> dict[str, Any]:
        (row,) = self.osint.rows("replay", "--check", self.captures[name], *words, code=code)
        return row

    def workspace(self) -> Workspace:
        return Workspace(load(self.osint.environ).service)

    def change(self, statement: str) -> int:
        with self.workspace() as workspace, workspace.catalog.begin() as connection:
            return connection.execute(text(statement)).rowcount


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("replay")
    blind = home / "chromium"  # the site's certificate is made for the test; a real one needs no such thing
    blind.write_text(f'#!/bin/sh\nexec {CHROMIUM} --ignore-certificate-errors "$@"\n')
    blind.chmod(blind.stat().st_mode | stat.S_IXUSR)
    Osint(home / "home").run("up", "--servers")
    try:
        free = socket.create_server(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        free.close()  # live it is refused
        clock = CLOCK.replace("TRAP", port).encode()
        with browsersite.running({**PAGES, "/clock": (200, HTML, clock)}) as site:
            context = self_signed(home)[0]
            site.servers[1].socket = context.wrap_socket(site.servers[1].socket, server_side=True)
            secure = f"https://127.0.0.1:{site.other}/secure"
            urls = {"news": site.url + "/news", "clock": site.url + "/clock", "secure": secure}
            crawling = Osint(
                home / "home", OSINT_CHROMIUM=str(blind), OSINT_ROBOTS="ignore:a test", OSINT_BROWSER_PAGES="1"
            )
            crawling.run("crawl", "--spider", "page", "--render", "always", *urls.values(), code=None)
        osint = Inside(home / "home")
        with Workspace(load(osint.environ).service) as workspace, workspace.catalog.begin() as connection:
            found = {
                row.url: str(row.id)
                for row in connection.execute(text("SELECT id, url FROM captures WHERE kind = 'rendered'"))
            }
        with socket.create_server(("127.0.0.1", int(port)), backlog=9) as trap:
            trap.setblocking(False)
            yield Place(osint, {name: found[url] for name, url in urls.items()}, urls, trap)
    finally:
        Osint(home / "home").run("down")


@needs_chromium
class TestReplays:
    def test_a_page_looks_as_it_did_live(self, place: Place) -> None:
        row = place.check("news")
        assert (row["text_ratio"], row["dom_equal"], row["picture_bits"]) == (1.0, True, 0)
        assert (row["missing"], row["unasked"], row["alike"]) == (0, 0, 0)
        assert row["asked"] == row["found"] >= 7
        assert (row["score"], row["bad"], row["detail"]["picture_equal"]) == (1.0, False, True)
        with place.workspace() as workspace:
            live = live_of(Recorded(workspace, UUID(place.captures["news"])), place.urls["news"])
        assert live.text and "яшчэ адзін тэкст xhr" in live.text, "the button was not clicked live"
        assert live.look.again.behaviours is not None  # and was again
        shown = place.osint.rows("show", place.captures["news"])[0]
        assert shown["replay"]["score"] == 1.0
        assert (
            f"score 1.000, text 1.000, {row['found']} of {row['asked']} found"
            in place.osint.run("show", place.captures["news"]).stdout
        )

    def test_a_page_over_tls_does_too_and_its_origin_is_secure(self, place: Place) -> None:
        place.osint.environ["OSINT_REPLAY_SAMPLE"] = "1"  # what a run's own sample does
        with place.workspace() as workspace, workspace.catalog.begin() as connection:
            run = connection.scalar(text(f"SELECT run_id FROM captures WHERE id = '{place.captures['secure']}'"))
        yesterday = datetime.now(UTC) - timedelta(days=1)
        place.change("UPDATE warc_files SET state = 'sealed' WHERE state = 'preserved'")
        try:
            with place.workspace() as workspace:
                assert check_recent(workspace, yesterday, 1) == []  # another machine could not read it yet
        finally:
            place.change("UPDATE warc_files SET state = 'preserved'")
        with place.workspace() as workspace:
            (done,) = check_sample(workspace, [run])
            assert check_sample(workspace, [run]) == []  # it was checked
            row = done.row
            assert row and (row.text_ratio, row.picture_bits, row.missing, row.score) == (1.0, 0, 0, 1.0)
            recorded = Recorded(workspace, UUID(place.captures["secure"]))
            (seen,) = [ref for ref in recorded.refs if ref.url.startswith("urn:text:")]
            assert payload(read_record(recorded.archive.member(seen))).decode().endswith("true")

    def test_what_a_page_makes_of_the_time_and_of_chance_is_not_hidden(self, place: Place) -> None:
        row = place.check("clock", code=3)
        assert 0.3 < row["text_ratio"] < 0.7 and row["score"] == row["text_ratio"] and row["bad"]
        assert row["detail"]["steadiness"]["text_ratio"] == pytest.approx(row["text_ratio"], abs=0.05)
        assert row["detail"]["steadiness"]["explains"]  # so that nobody is told of it
        assert row["alike"] == 1 and row["missing"] == 0  # what live asked in vain is not missing
        assert "two replays differ from each other as much" in place.osint.run("show", place.captures["clock"]).stdout
        with pytest.raises(BlockingIOError):
            place.trap.accept()
        assert row["detail"]["alike"][0].startswith(place.urls["clock"].removesuffix("clock") + "stamp.png?t=")

    def test_a_lost_picture_makes_it_worse_and_is_told(self, place: Place, caplog: pytest.LogCaptureFixture) -> None:
        lost = place.urls["news"].removesuffix("news") + "two.png"
        assert place.change(f"UPDATE records SET url = 'urn:lost:' || url WHERE url = '{lost}'") >= 2
        try:
            row = place.check("news", code=3)
        finally:
            place.change(f"UPDATE records SET url = '{lost}' WHERE url = 'urn:lost:{lost}'")
        assert row["missing"] == 1 and row["detail"]["missing"] == [lost]
        assert row["bad"] and row["score"] < 0.9 and row["picture_bits"] > 0
        assert not row["detail"]["steadiness"]["explains"]
        assert any("does not replay as it was seen" in one.getMessage() for one in caplog.records)
        assert place.osint.rows("status")[0]["replays"]["bad"] >= 1
        assert 'osint_replay_checks{result="bad"}' in place.osint.run("metrics", "--once").stdout


def ask(
    proxy: ReplayProxy, method: str, url: str, body: bytes = b"", **fields: str
) -> tuple[int, dict[str, str], bytes]:
    """Ask the proxy as a browser would."""
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(proxy.url).port, timeout=20)
    try:
        connection.request(
            method, url, body=body or None, headers={name.replace("_", "-"): value for name, value in fields.items()}
        )
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@needs_chromium
class TestProxy:
    @pytest.fixture
    def proxy(self, place: Place) -> Iterator[ReplayProxy]:
        with place.workspace() as workspace, ReplayProxy() as proxy:
            proxy.show(Recorded(workspace, UUID(place.captures["news"])))
            yield proxy

    def test_parts_posts_and_revisits_come_out_of_the_records(self, place: Place, proxy: ReplayProxy) -> None:
        base = place.urls["news"].removesuffix("/news")
        status, fields, body = ask(proxy, "GET", base + "/tone.wav?x", Range="bytes=10-99")
        assert (status, fields["Content-Range"], body) == (206, "bytes 10-99/320044", browsersite.tone(20)[10:100])
        status, fields, body = ask(
            proxy, "GET", base + "/tone.wav?x", Range="bytes=20-29"
        )  # cut from the recorded part
        assert (status, fields["Content-Range"], body) == (206, "bytes 20-29/320044", browsersite.tone(20)[20:30])
        assert ask(proxy, "GET", base + "/tone.wav?x", Range="bytes=200-299")[0] == 404
        status, fields, body = ask(proxy, "GET", base + "/one.png", Range="bytes=-5")  # cut from a recorded whole
        assert (status, body) == (206, PAGES["/one.png"][2][-5:])
        assert ask(proxy, "POST", base + "/api/post", "дадзеныя=1".encode())[2] == b"got " + "дадзеныя=1".encode()
        assert proxy.seen[-1].how is How.EXACT
        assert ask(proxy, "POST", base + "/api/post", b"other")[2] == b"got " + "дадзеныя=1".encode()
        assert proxy.seen[-1].how is How.ALIKE
        assert ask(proxy, "GET", base + "/api/post")[0] == 404
        assert ask(proxy, "HEAD", base + "/one.png")[0] == 200
        with place.workspace() as workspace:
            clock = Recorded(workspace, UUID(place.captures["clock"]))
            assert next(ref.type.value for ref in clock.refs if ref.url.endswith("/same.png")) == "revisit"
            proxy.show(clock)
            assert ask(proxy, "GET", base + "/same.png")[2] == PAGES["/one.png"][2]

    def test_a_record_is_read_from_the_store_where_its_warc_left_this_machine(
        self, place: Place, proxy: ReplayProxy
    ) -> None:
        sealed = place.osint.home / "spool" / "sealed"
        sealed.rename(sealed.with_name("away"))
        try:
            assert ask(proxy, "GET", place.urls["news"].replace("/news", "/two.png"))[2] == PAGES["/two.png"][2]
        finally:
            sealed.with_name("away").rename(sealed)

    def test_what_is_not_in_the_archive_is_said_without_a_script(self, place: Place, proxy: ReplayProxy) -> None:
        status, fields, body = ask(proxy, "GET", "http://elsewhere.example/<script>alert(1)</script>")
        assert status == 404 and b"not in the archive" in body and b"<script" not in body
        assert fields["Content-Security-Policy"].startswith("default-src 'none'")
        assert ask(proxy, "GET", "/etc/passwd")[2].count(b"This is a proxy") == 1

    def test_bytes_without_their_digest_are_not_shown(self, place: Place, proxy: ReplayProxy) -> None:
        url = place.urls["news"].removesuffix("news") + "two.png"
        recorded = proxy.recorded
        assert recorded is not None
        for one in recorded.own:
            if one.ref.url == url:
                object.__setattr__(one.ref, "record_sha256", "0" * 64)
        status, _, body = ask(proxy, "GET", url)
        assert status == 502 and b"damaged in the archive" in body
        assert resources(proxy.seen, ()).damaged == {url}


@needs_chromium
class TestShots:
    def test_pictures_are_the_bytes_of_their_records(self, place: Place, tmp_path: Path) -> None:
        rows = place.osint.rows("shot", place.captures["news"], "--out", str(tmp_path / "new"))
        assert "screenshot" in {row["kind"] for row in rows}
        for row in rows:
            data = Path(row["path"]).read_bytes()
            assert sha256(data).hexdigest() == row["payload_sha256"]
            assert Image.open(io.BytesIO(data)).size[0] == 1280
        records = place.osint.rows("show", place.captures["news"])[0]["records"]
        digests = {one["payload_sha256"] for one in records if one["type"] == "resource"}
        assert {row["payload_sha256"] for row in rows} <= digests

    def test_nothing_is_written_over(self, place: Place, tmp_path: Path) -> None:
        (row, *_) = place.osint.rows("shot", place.captures["news"], "--out", str(tmp_path))
        Path(row["path"]).write_bytes(b"mine")
        done = place.osint.run("shot", place.captures["news"], "--out", str(tmp_path), code=2)
        assert "is not written over" in done.stderr and Path(row["path"]).read_bytes() == b"mine"

    def test_a_capture_without_a_picture_is_said(self, place: Place, tmp_path: Path) -> None:
        with place.workspace() as workspace, workspace.catalog.begin() as connection:
            file = connection.scalar(text("SELECT id FROM captures WHERE kind <> 'rendered' LIMIT 1"))
        if file is not None:
            assert (
                "has no picture of the page"
                in place.osint.run("shot", str(file), "--out", str(tmp_path), code=1).stderr
            )
            done = place.osint.run("replay", "--check", str(file), code=1)
            assert "was not captured by the browser" in done.stderr
        assert "has the id" in place.osint.run("shot", str(UUID(int=5)), code=2).stderr
        assert place.osint.run("replay", code=2).stderr.startswith("osint: name one capture")


@needs_chromium
def test_without_a_browser_nothing_is_checked_and_it_is_said(place: Place) -> None:
    place.osint.environ["OSINT_CHROMIUM"] = "/nowhere/chromium"
    try:
        assert (
            "no Chromium that may be run at /nowhere/chromium"
            in place.osint.run("replay", "--check", place.captures["news"], code=2).stderr
        )
    finally:
        del place.osint.environ["OSINT_CHROMIUM"]


@needs_chromium
def test_replay_serves_until_it_is_told_to_stop(place: Place) -> None:
    process = Osint(place.osint.home).start("replay", place.captures["news"], "--json")
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["url"] == place.urls["news"] and told["command"][-1] == told["url"]
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(told["proxy"]).port, timeout=20)
        connection.request("GET", told["url"])
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, PAGES["/news"][2])
        connection.close()
    finally:
        process.terminate()
        assert process.wait(20) == 0
        for pipe in (process.stdout, process.stderr):
            pipe.close()


@pytest.mark.parametrize(
    ("asked", "recorded", "shown"),
    [
        ("https://a.by/x.js", "http://a.by/x.js", True),
        ("http://a.by/x.js?v=2", "http://a.by/x.js?v=1", True),
        ("http://a.by/list?page=2", "http://a.by/list?page=1", False),
        ("http://a.by/list?page=1&_=1764110000", "http://a.by/list?page=1&_=1764110999", True),
        ("http://a.by/list?page=1&s=0.123456", "http://a.by/list?page=1&s=0.654321", True),
        ("http://a.by/list?page=1", "http://a.by/list?page=1&q=x", False),
        ("http://a.by/other", "http://a.by/list", False),
        ("http://b.by/x.js", "http://a.by/x.js", False),
        ("http://a.by/post?id=123456", "http://a.by/post?id=654321", False),
        ("http://a.by/post?id=1234567890", "http://a.by/post?id=1111111111", False),
        ("http://a.by/list?at=1764110000123", "http://a.by/list?at=1764103000456", True),
        ("http://a.by/x.js?id=abcdef1234567890", "http://a.by/x.js?id=fedcba0987654321", True),
    ],
)
def test_which_address_stands_for_another(asked: str, recorded: str, shown: bool) -> None:
    assert most_alike(asked, [recorded], times=[1764110000]) == (recorded if shown else None)
    scheme_alone = asked.partition("://")[2] == recorded.partition("://")[2]
    assert most_alike(asked, [recorded], document=True) == (recorded if scheme_alone else None)


def test_the_figures() -> None:
    assert text_ratio("a b c d", "a b c d") == text_ratio("", " \n") == 1.0
    assert text_ratio("a b c d", "d c b x") == 0.75 and text_ratio("a", "") == 0.0
    assert score(1.0, 1.0, 0) == 1.0 and score(1.0, 0.5, 0) == 0.5 and score(1.0, 1.0, 8) == 0.75
    assert score(None, 0.8, None) == 0.8 and score(1.0, 1.0, 64) == 0.0
    assert plain("HTTP://A.by:80#x") == "http://a.by/"
    seen = [
        Seen(method="GET", url="http://a/", how=How.EXACT, status=200, shown="http://a/"),
        Seen(method="GET", url="http://a/x?t=2", how=How.ALIKE, status=200, shown="http://a/x?t=1"),
        Seen(method="GET", url="http://a/gone", how=How.MISSING, status=404),
        Seen(method="GET", url="http://a/dead", how=How.FAILED, status=0),
        Seen(method="GET", url="ws://a/s", how=How.MISSING, status=404, socket=True),
    ]
    found = resources(seen, {"http://a/", "http://a/x?t=1", "http://a/never"})
    assert (len(found.found), len(found.alike), found.missing, found.unasked) == (
        2,
        1,
        {"http://a/gone"},
        {"http://a/never"},
    )
    assert found.ratio == 0.5


@pytest.mark.parametrize(
    ("found", "live", "again", "left"),
    [
        (1.0, (0.5, 20), (0.51, 19), 1.0),  # a clock and an animation
        (0.7, (0.5, 20), (0.51, 19), 0.7),  # and something is missing too
        (1.0, (0.5, 0), (1.0, 0), 0.5),  # lost text
        (1.0, (1.0, 8), (1.0, 0), 0.75),  # a lost picture
        (1.0, (0.5, None), (0.5, None), 1.0),
    ],
)
def test_what_two_replays_differ_in_as_much_is_the_page_s_own_doing(
    found: float, live: tuple[float, int | None], again: tuple[float, int | None], left: float
) -> None:
    ours, theirs = (Likeness(text=one[0], bits=one[1]) for one in (live, again))
    assert unexplained(found, ours, theirs) == left


def test_each_replay_has_a_key_of_its_own_and_names_the_host() -> None:
    one, other = Certificates(), Certificates()
    assert one.pin != other.pin and len(one.pin) == 44
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    a, b = (
        client.wrap_bio(ours, theirs, server_hostname="затрыманні.by"),
        one.context("затрыманні.by").wrap_bio(theirs, ours, server_side=True),
    )
    for _ in range(3):
        for side in (a, b):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert a.version() == "TLSv1.3" and a.getpeercert(binary_form=True)


class Restless(ReplayProxy):
    """Answers with a page that goes on to another one when its network has been quiet for a moment."""

    def take(self, asked: Asked, *, navigates: bool, websocket: bool) -> Answer | None:
        self._last = time.monotonic()
        goes = "" if "?" in asked.url else GOES
        return Answer(status=200, reason="OK", fields=(("Content-Type", HTML),), body=goes.encode(), how=How.EXACT)


GOES = """<link rel=icon href=data:,><p>first<script>onresize = () => { const c = new MessageChannel(), end = performance.now() + 300;
c.port1.onmessage = () => { const t = performance.now(); while (performance.now() - t < 30);
if (performance.now() > end) location = '/?' + end; else c.port2.postMessage(0) }; c.port2.postMessage(0) }</script><p style="height:2000px">"""


@needs_chromium
def test_a_page_that_goes_on_and_a_browser_that_ended_hold_up_no_other_page() -> None:
    async def look() -> list[View]:
        with Restless() as proxy:
            async with ReplayBrowser(proxy, Path(CHROMIUM or "")) as browser:
                views = [await browser.look(Look(url="http://a.example/"), 8)]
                assert browser._chromium is not None
                await browser._chromium.handle.close()
                return [*views, await browser.look(Look(url="http://a.example/?"), 8)]

    gone, after = asyncio.run(look())
    assert gone.html is not None or gone.trouble
    assert after.html is not None and not after.trouble


class Long(ReplayProxy):
    """Answers with a page whose DOM is long, and whose text is longer."""

    def take(self, asked: Asked, *, navigates: bool, websocket: bool) -> Answer | None:
        self._last = time.monotonic()
        body = b"<link rel=icon href=data:,><p id=o><script>o.textContent = 'a '.repeat(100_000)</script>"
        return Answer(status=200, reason="OK", fields=(("Content-Type", HTML),), body=body, how=How.EXACT)


@needs_chromium
def test_a_long_dom_is_read_to_the_bound_that_the_capture_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osint_pipeline.fetch.look.DOM_CHARACTERS", 1000)

    async def look() -> View:
        with Long() as proxy:
            async with ReplayBrowser(proxy, Path(CHROMIUM or "")) as browser:
                return await browser.look(Look(url="http://a.example/"), 8)

    view = asyncio.run(look())
    assert view.html is not None and (len(view.html), len(view.text)) == (1000, 1000)
    assert view.trouble == ("DOM or text is longer than what is read of it; only its beginning is compared",)


class Stopping(ReplayProxy):
    """Stops every Chromium of ours at the first question, as a fault of the machine would."""

    stopped = False

    def take(self, asked: Asked, *, navigates: bool, websocket: bool) -> Answer | None:
        if not Stopping.stopped:
            Stopping.stopped = True
            for one in main_ones():
                hit(signal.SIGSTOP, one)
        return super().take(asked, navigates=navigates, websocket=websocket)


@needs_chromium
def test_a_chromium_that_hangs_is_put_down_and_its_capture_is_not_called_bad(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osint_pipeline.replay.check.ReplayProxy", Stopping)
    monkeypatch.setitem(place.osint.environ, "OSINT_BROWSER_HUNG_SECONDS", "3")
    begun = time.monotonic()
    wanted = (place.captures["secure"], place.captures["news"])
    hung, next_one = place.osint.rows("replay", "--check", *wanted, code=3)  # the oldest capture first
    assert hung["why"] == f"{hung['url']}: the browser ended (it did not answer within 3 s)"
    assert next_one["score"] == 1.0
    assert time.monotonic() - begun < 40 and gone(chromiums) and not homes()


class Struck(ReplayProxy):
    """Kills every Chromium of ours while a capture is shown for the second time."""

    shows = 0

    def show(self, recorded: Recorded) -> None:
        self.shows += 1
        super().show(recorded)

    def take(self, asked: Asked, *, navigates: bool, websocket: bool) -> Answer | None:
        if self.shows == 2:
            self.shows += 1
            for one in main_ones():
                hit(signal.SIGKILL, one)
        return super().take(asked, navigates=navigates, websocket=websocket)


@needs_chromium
def test_a_second_look_that_fails_takes_nothing_from_the_first_and_explains_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osint_pipeline.replay.check.ReplayProxy", Struck)
    row = place.check("clock", code=3)
    assert row["bad"] and 0.3 < row["text_ratio"] < 0.7
    assert not row["detail"]["steadiness"]["explains"] and "ended" in row["detail"]["steadiness"]["why"]
    shown = place.osint.run("show", place.captures["clock"]).stdout
    assert "BAD, score" in shown and "two replays" not in shown


@needs_chromium
def test_no_chromium_outlives_a_check_that_is_killed(place: Place) -> None:
    ours = Osint(place.osint.home).start("replay", "--check", "--all")
    try:
        leashed = lambda: [one for one in psutil.Process(ours.pid).children() if "leash" in one.cmdline()]  # noqa: E731
        assert gone(lambda: not leashed(), 60), "no Chromium was started"
        left = chromiums(ours.pid)
        for one in left:
            hit(signal.SIGSTOP, one)  # one that hangs does not end by itself
    finally:
        ours.kill()
        ours.communicate(timeout=30)
    assert left and gone(lambda: [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])
    assert gone(lambda: homes(ours.pid))


def test_another_user_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with ReplayProxy() as proxy, socket.create_connection(("127.0.0.1", urlsplit(proxy.url).port or 0), 10) as client:
        client.sendall(b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100) == b""
