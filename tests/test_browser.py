"""The browser fetcher on a hard page: everything recorded once, the page undisturbed, nothing reached that may not be."""

import asyncio
import io
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import browsersite
import psutil
import pytest
from browserlab import CHROMIUM, GUARD, Kept, bare_report, chromiums
from PIL import Image

from osint_pipeline.fetch.browser import FLAGS, Browser, BrowserCrashed, BrowserMissing
from osint_pipeline.fetch.cdp_head import request_bytes, response_head
from osint_pipeline.fetch.cdp_hop import Hop
from osint_pipeline.fetch.guard import AddressRefused
from storage.errors import SpoolFull
from storage.exchange import Truncated
from storage.ids import new_id

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def hard(lab):
    """The hard page, fetched once: (rendered, kept, the server's log, the page's report in a bare load)."""
    with browsersite.running() as site:
        bare = asyncio.run(bare_report(site.url + "/", browsersite.report_in))
        site.log.clear()
        rendered, kept = lab.fetch(site.url + "/go")
        with site.lock:
            log = list(site.log)
    return rendered, kept, log, bare


@contextmanager
def pages(**bodies: str) -> Iterator[browsersite.Site]:
    """Run the site with pages of one test's own."""
    with browsersite.running({f"/{name}": (200, "text/html; charset=utf-8", body.encode()) for name, body in bodies.items()}) as site:  # fmt: skip
        yield site


@needs_chromium
class TestHardPage:
    def test_every_request_is_recorded_exactly_once_with_what_was_served(self, hard):
        _, kept, log, _ = hard
        served = Counter((one.method, one.url, one.status, one.sha256) for one in log)
        for key in served:
            if key[1].endswith("/sw.js"):  # Chromium checks for a newer one by itself, unseen by CDP
                served[key] = 1
        assert len(log) >= 47
        assert kept.seen_on_wire() == served

    def test_the_page_behaves_as_in_a_bare_load(self, hard):
        rendered, _, _, bare = hard
        assert browsersite.report_in(rendered.text) == bare
        assert "silent" not in bare.values()

    def test_what_only_scripts_make_is_in_dom_and_text(self, hard):
        rendered, kept, _, _ = hard
        assert "Толькі са скрыпта" in rendered.html
        assert "Толькі са скрыпта" in rendered.text
        assert kept.resources["dom"].body.decode() == rendered.html
        assert kept.resources["text"].body.decode() == rendered.text
        assert "Толькі са скрыпта".encode() not in kept.of("/")[2]

    def test_the_main_response_is_the_last_hop(self, hard):
        rendered, kept, _, _ = hard
        assert rendered.status == 200
        assert rendered.final_url.endswith("/") and rendered.main.url == rendered.final_url
        assert kept.of("/go")[1].startswith(b"HTTP/1.1 302 ")
        assert kept.resources["dom"].about == rendered.main.record_id
        assert kept.resources["dom"].url == f"urn:dom:{rendered.final_url}go"
        assert rendered.failure is None and not rendered.timed_out

    def test_the_screenshot_is_a_png_as_wide_as_the_view_and_as_tall_as_the_page(self, hard):
        _, kept, _, _ = hard
        with Image.open(io.BytesIO(kept.resources["screenshot"].body)) as picture:
            assert (picture.format, picture.width) == ("PNG", 1280)
            assert picture.height >= 2000

    def test_heads_are_as_on_the_wire(self, hard):
        _, kept, log, _ = hard
        exchange, head, body = kept.of("/")
        assert b"\r\nSet-Cookie: one=1; Path=/\r\nset-cookie: two=2; Path=/; HttpOnly\r\n" in head
        assert exchange.ip == "127.0.0.1" and exchange.protocols == ("http/1.1",)
        assert f"\r\nContent-Length: {len(body)}".encode() in head
        assert b"Cookie: one=1; two=2\r\n" in kept.of("/cookie")[0].request
        assert {one.cookie for one in log if one.path == "/cookie"} == {"one=1; two=2"}

    def test_what_the_browser_decoded_is_declared(self, hard):
        _, kept, _, _ = hard
        exchange, head, body = kept.of("/gzip-chunked.txt")
        assert b"X-Archive-Orig-Content-Encoding: gzip\r\n" in head
        assert b"X-Archive-Orig-Transfer-Encoding: chunked\r\n" in head
        assert head.endswith(b"Content-Length: %d" % len(body))
        assert ("OSINT-Alteration", "content-decoding removed by the browser") in exchange.notes
        exchange, head, _ = kept.of("/gzip.json")
        assert b"X-Archive-Orig-Content-Length: " in head

    def test_posted_bodies_are_in_the_requests(self, hard):
        _, kept, log, _ = hard
        posted = {one.url: one.request.partition(b"\r\n\r\n")[2] for one, _ in kept.exchanges if one.method in ("POST", "PUT")}  # fmt: skip
        assert posted == {one.url: one.posted for one in log if one.method in ("POST", "PUT")}
        assert len(posted) == 6

    def test_page_info_tells_each_resource_and_how_its_body_was_had(self, hard):
        rendered, kept, _, _ = hard
        info = json.loads(kept.resources["pageinfo"].body)
        assert {(one["url"].rpartition("/")[2], one["body"]) for one in info["resources"]} >= {
            ("huge.bin", "copied"),
            ("big.bin", "copied"),
            ("style.css", "recalled"),
            ("events", "copied"),
        }
        assert len([one for one in info["resources"] if one["from"] is None]) == len(kept.exchanges)
        assert info["browser"].startswith("Chromium ")
        assert tuple(info["omissions"]) == rendered.omissions

    def test_records_are_all_named(self, hard):
        rendered, kept, _, _ = hard
        ids = {one.record_id for one, _ in kept.exchanges} | {one.record_id for one in kept.resources.values()}
        assert {one.record_id for one in rendered.records} == ids
        assert rendered.screenshot.record_id == kept.resources["screenshot"].record_id


@needs_chromium
class TestRefusals:
    def test_a_page_reaches_no_private_address_and_says_so(self, lab):
        body = """<p id=o></p><img src="http://localhost.localdomain.invalid/x.png"><script>(async () => { const out = [];
        for (const u of ['http://169.254.169.254/latest/', 'http://127.0.0.2:PORT/', 'http://[::ffff:127.0.0.2]:PORT/', 'http://2130706434:PORT/'])
        try { await fetch(u, {mode: 'no-cors'}); out.push('reached'); } catch (e) { out.push('refused'); }
        document.getElementById('o').textContent = out.join(' '); })()</script>"""
        with socket.create_server(("127.0.0.2", 0)) as inner:
            inner.setblocking(False)
            with pages(page=body.replace("PORT", str(inner.getsockname()[1]))) as site:
                rendered, kept = lab.fetch(site.url + "/page")
            with pytest.raises(BlockingIOError):
                inner.accept()
        assert rendered.text.strip() == "refused refused refused refused"
        refused = [one for one in rendered.omissions if "refused, " in one]
        assert len(refused) == 3 and any("169.254.169.254" in one for one in refused)  # 2130706434 is 127.0.0.2
        (failure,) = [one.failure for one, block in kept.exchanges if not block]
        assert failure.startswith("net::ERR_SOCKS_CONNECTION") and "(" in failure

    @pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://169.254.169.254/", "http://127.0.0.2/", "http://0x7f.2/"])  # fmt: skip
    def test_an_address_that_may_not_be_reached_is_refused_at_once(self, lab, url):
        with pytest.raises(AddressRefused):
            lab.fetch(url)

    def test_a_redirect_to_a_private_address_is_refused_and_the_redirect_kept(self, lab):
        with browsersite.running({"/away": (302, "http://169.254.169.254/", b"")}) as site:
            kept = Kept()
            with pytest.raises(AddressRefused) as caught:
                lab.fetch(site.url + "/away", kept)
        assert caught.value.address == "169.254.169.254"
        assert kept.of("/away")[1].startswith(b"HTTP/1.1 302 ")

    def test_webrtc_sends_nothing_past_the_relay(self, lab):
        body = """<p id=o>none</p><script>const p = new RTCPeerConnection({iceServers: [{urls: 'stun:127.0.0.1:PORT'}]}); const seen = [];
        p.onicecandidate = e => e.candidate && seen.push(e.candidate.candidate); p.onicegatheringstatechange = () => { if (p.iceGatheringState == 'complete') fetch('/empty').then(() => document.getElementById('o').textContent = 'candidates ' + seen.length); };
        p.createDataChannel('x'); p.createOffer().then(o => p.setLocalDescription(o));</script>"""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stun:
            stun.bind(("127.0.0.1", 0))
            stun.setblocking(False)
            with pages(page=body.replace("PORT", str(stun.getsockname()[1]))) as site:
                rendered, _ = lab.fetch(site.url + "/page")
            with pytest.raises(BlockingIOError):
                stun.recv(100)
        assert rendered.text == "candidates 0"

    def test_view_counters_are_blocked_and_declared(self, lab):
        body = "<p id=o></p><script>fetch('/v/?views=1', {method: 'POST', body: 'x'}).catch(() => document.getElementById('o').textContent = 'blocked')</script>"
        with pages(page=body) as site:
            rendered, _ = lab.fetch(site.url + "/page")
            assert rendered.text == "blocked"
            assert [one for one in site.log if one.path.startswith("/v/")] == []
        assert rendered.alterations == (f"{site.url}/v/?views=1: blocked, the request was not sent",)
        assert not any("/v/" in one for one in rendered.omissions)

    def test_only_web_addresses_are_fetched(self, lab):
        with pytest.raises(ValueError, match="not an http address"):
            lab.fetch("file:///etc/passwd")


@needs_chromium
class TestFaults:
    def test_a_killed_browser_fails_the_fetch_and_the_next_one_works(self, lab):
        with pages(page="<p>here</p><img src=/hang>", next="<p>next</p>") as site:
            kept = Kept()
            going = asyncio.run_coroutine_threadsafe(
                lab.browser.fetch(site.url + "/page", new_id(), kept, timeout_seconds=30, limit_bytes=1 << 20), lab.loop
            )
            assert kept.seen.wait(20) and site.hanging.wait(20)
            time.sleep(0.5)  # until the browser has told of it too, which nobody outside can see
            for process in chromiums():
                with suppress(psutil.Error):  # one that is ending already
                    if not any("--type=" in word for word in process.cmdline()):
                        process.kill()
            with pytest.raises(BrowserCrashed) as caught:
                going.result(20)
            assert [one.url for one in caught.value.records] == [f"{site.url}/page", f"{site.url}/hang"]
            rendered, _ = lab.fetch(site.url + "/next")
        assert rendered.text == "next"

    def test_a_crashed_page_fails_the_fetch_and_the_next_one_works(self, lab):
        with pages(page="<p>here</p><img src=/hang>", next="<p>next</p>") as site:
            kept = Kept()
            going = asyncio.run_coroutine_threadsafe(
                lab.browser.fetch(site.url + "/page", new_id(), kept, timeout_seconds=30, limit_bytes=1 << 20), lab.loop
            )
            assert kept.seen.wait(20)
            for process in chromiums():
                with suppress(psutil.Error):
                    if "--type=renderer" in process.cmdline():
                        process.kill()
            with pytest.raises(BrowserCrashed):
                going.result(20)
            assert lab.fetch(site.url + "/next")[0].text == "next"

    def test_what_came_before_the_time_was_up_is_kept(self, lab):
        with pages(page="<p>here</p><img src=/hang><img src=/a.png>") as site:
            rendered, kept = lab.fetch(site.url + "/page", timeout_seconds=4)
        assert rendered.timed_out and rendered.text == "here" and rendered.status == 200
        assert any(one.startswith("timed out") for one in rendered.omissions)
        assert kept.of("/a.png")[2] == browsersite.png(10)
        assert "time" in kept.of("/hang")[0].failure

    def test_a_page_that_never_answers_is_a_failure_with_an_exchange(self, lab):
        with browsersite.running() as site:
            rendered, kept = lab.fetch(site.url + "/hang", timeout_seconds=2)
        assert (rendered.failure, rendered.status, rendered.main) == ("timed out", None, None)
        assert [one.url for one, _ in kept.exchanges] == [f"{site.url}/hang"]

    def test_a_page_that_cannot_be_reached_is_a_failure_with_an_exchange(self, lab):
        with socket.create_server(("127.0.0.1", 0)) as bound:
            free = bound.getsockname()[1]
        rendered, kept = lab.fetch(f"http://127.0.0.1:{free}/")
        assert "ERR_SOCKS_CONNECTION_FAILED" in rendered.failure
        assert rendered.main is None and rendered.html == ""
        (failure,) = [one.failure for one, _ in kept.exchanges]
        assert failure.startswith("net::ERR_SOCKS_CONNECTION_FAILED (") and str(free) in failure

    def test_answers_above_the_limit_are_cut_and_declared(self, lab):
        body = "<p id=o></p><script>fetch('/huge.bin').then(r => r.arrayBuffer()).catch(() => 0).then(() => fetch('/gzip.json')).catch(() => document.getElementById('o').textContent = 'cut')</script>"
        with pages(page=body) as site:
            rendered, kept = lab.fetch(site.url + "/page", limit_bytes=1_000_000)
        exchange, _, got = kept.of("/huge.bin")
        assert exchange.truncated is Truncated.LENGTH
        assert 900_000 < len(got) <= 1_000_000 and browsersite.HUGE.startswith(got)
        assert kept.of("/gzip.json")[0].truncated is Truncated.LENGTH
        assert sum(len(block.partition(b"\r\n\r\n")[2]) for _, block in kept.exchanges) == 1_000_000
        assert any("huge.bin: body cut" in one for one in rendered.omissions)
        assert rendered.text == "cut"

    def test_a_busy_loop_in_the_page_does_not_hold_us(self, lab, monkeypatch):
        monkeypatch.setattr("osint_pipeline.fetch.visit.STEP_SECONDS", 1.0)
        with pages(page="<p>here</p><script>onload = () => { for (;;); }</script>", next="<p>next</p>") as site:
            kept = Kept()
            try:
                rendered, _ = lab.fetch(site.url + "/page", kept, timeout_seconds=2)
                assert rendered.omissions
            except BrowserCrashed:
                pass
            assert kept.of("/page")[1].startswith(b"HTTP/1.1 200")
            monkeypatch.undo()
            assert lab.fetch(site.url + "/next")[0].text == "next"

    def test_a_sink_that_fails_fails_the_fetch(self, lab):
        with browsersite.running() as site, pytest.raises(SpoolFull):
            lab.fetch(site.url + "/frame.html", Kept(fail_at=2))

    def test_no_chromium_is_said_with_the_places_looked_at(self, tmp_path):
        async def fetch() -> None:
            async with Browser(tmp_path / "nothing", GUARD, scratch=tmp_path) as browser:
                await browser.fetch("http://127.0.0.1:9/", new_id(), Kept(), timeout_seconds=1, limit_bytes=1)

        with pytest.raises(BrowserMissing, match="nothing"):
            asyncio.run(fetch())


@needs_chromium
class TestPages:
    def test_a_page_that_is_left_is_known_to_have_gone(self, lab, monkeypatch):
        """Whether it tells so by itself depends on the moment: a few pages show it."""
        monkeypatch.setattr("osint_pipeline.fetch.cdp.LEAVE_SECONDS", 20.0)
        images = "".join(f"<img src=/a.png?{number}>" for number in range(40))
        with pages(page=f"<p>here</p>{images}") as site:
            seen = [lab.fetch(site.url + "/page")[0] for _ in range(6)]
        assert not [line for one in seen for line in one.omissions if "while it was left" in line]

    def test_dialogs_are_dismissed_and_declared(self, lab):
        with pages(page="<p id=o></p><script>document.getElementById('o').textContent = 'asked ' + confirm('?')</script>") as site:  # fmt: skip
            rendered, _ = lab.fetch(site.url + "/page")
        assert rendered.text == "asked false"
        assert rendered.alterations == ("a dialog of the page was dismissed (confirm)",)

    def test_a_download_is_recorded_but_not_kept_as_a_page(self, lab):
        with browsersite.running() as site:
            rendered, kept = lab.fetch(site.url + "/file")
        assert rendered.failure and rendered.html == ""
        assert rendered.status == 200 and kept.of("/file")[2] == b"a file"

    def test_a_missing_page_is_captured_with_its_status(self, lab):
        with browsersite.running() as site:
            rendered, kept = lab.fetch(site.url + "/nowhere")
        assert (rendered.status, rendered.text, rendered.failure) == (404, "nothing", None)
        assert kept.of("/nowhere")[2] == b"nothing"

    def test_nothing_is_carried_from_one_fetch_to_the_next(self, lab):
        with browsersite.running({"/": (200, "text/html", b"<p>sets a cookie</p>")}) as site:
            assert b"two=2" in lab.fetch(site.url + "/")[1].of("/")[1]
            site.log.clear()
            lab.fetch(site.url + "/cookie")
            assert {one.cookie for one in site.log} == {""}

    def test_a_very_tall_page_has_a_shortened_picture_and_says_so(self, lab):
        with pages(page="<body style='margin:0;height:30000px'>tall") as site:
            rendered, kept = lab.fetch(site.url + "/page")
        with Image.open(io.BytesIO(kept.resources["screenshot"].body)) as picture:
            assert picture.size == (1280, 16_000)
        assert "screenshot: 1280x16000 pixels of 1280x30000" in rendered.omissions


def hop(**changes) -> Hop:
    now = datetime.now(UTC)
    values = {"url": "https://example.org/a", "method": "GET", "headers": {}, "posted": None, "status": 200, "reason": "OK"}  # fmt: skip
    return Hop(**(values | {"fields": (), "started_at": now, "ended_at": now} | changes))


def test_an_http2_request_is_written_in_the_form_of_http1():
    headers = {":authority": "example.org", ":method": "GET", ":path": "/a?b", ":scheme": "https", "accept": "*/*"}
    assert request_bytes("https://example.org/a?b", "GET", headers, None) == (
        b"GET /a?b HTTP/1.1\r\nHost: example.org\r\naccept: */*\r\n\r\n"
    )


def test_a_response_without_a_raw_head_is_rebuilt_and_says_so():
    head, notes = response_head(hop(reason="", fields=(("a", "1"), ("content-encoding", "br"))), 200, "", 5)
    assert head == b"HTTP/1.1 200 \r\na: 1\r\nX-Archive-Orig-content-encoding: br\r\nContent-Length: 5\r\n\r\n"
    assert [why for _, why in notes] == [
        "response head rebuilt from the browser's list",
        "content-decoding removed by the browser",
    ]


def test_a_list_of_octets_goes_before_one_without_cookies_and_keeps_its_order():
    fields = (("b", "2"), ("a", "Мінск"))
    octets = {"a": "Ð\u0153Ñ\u2013Ð½Ñ\x81Ðº", "b": "2", "set-cookie": "c=1\nd=2"}
    head, notes = response_head(hop(reason="", fields=fields), 200, "", None, octets)
    assert head == "HTTP/1.1 200 \r\nb: 2\r\na: Мінск\r\nset-cookie: c=1\r\nset-cookie: d=2\r\n\r\n".encode()
    assert [why for _, why in notes] == ["response head rebuilt from the browser's list, order lost"]
    del octets["set-cookie"]
    assert "order lost" in response_head(hop(fields=fields, paused=False), 200, "", None, octets)[1][0][1]
    head, notes = response_head(hop(reason="", fields=(("a", "1\n2"), ("content-encoding", "br"))), 200, "", 5)
    assert head == b"HTTP/1.1 200 \r\na: 1\r\na: 2\r\nX-Archive-Orig-content-encoding: br\r\nContent-Length: 5\r\n\r\n"
    assert notes[0][1] == "response head rebuilt from the browser's list, order lost"
    assert (
        response_head(hop(fields=fields), 200, "", None, octets)[1][0][1]
        == "response head rebuilt from the browser's list"
    )


def test_a_head_without_a_body_stays_as_it_was():
    raw = "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nContent-Encoding: gzip\r\n\r\n"
    assert response_head(hop(), 304, raw, None) == (raw.encode(), [])


def test_flags_send_every_name_to_the_relay():
    assert "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1" in FLAGS
    assert "--proxy-bypass-list=<-loopback>" in FLAGS
