"""The recorder on the torture page: what the servers gave is in the records, and the page did what it does unrecorded."""

import asyncio
import base64
import json
import time
from collections import Counter

import pytest
import torturesite
from browserlab import CHROMIUM, Kept, bare_report
from torturesite import Served

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
HANG_SECONDS = 150.0


@pytest.fixture(scope="module")
def site():
    with torturesite.running() as site:
        yield site


@pytest.fixture(scope="module")
def bare(site):
    report = asyncio.run(bare_report(site.url + "/go", torturesite.report_in))
    site.settle()
    site.taken()
    return report


@pytest.fixture(scope="module")
def torture(lab, site, bare):
    """(rendered, kept, the servers' log, their WebSockets) of one recorded load."""
    rendered, kept = lab.fetch(site.url + "/go", timeout_seconds=HANG_SECONDS, limit_bytes=128 << 20)
    site.settle()
    return rendered, kept, *site.taken()


def parts(block: bytes) -> tuple[int, bytes]:
    """The status and the body of a recorded response."""
    head, _, body = block.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


def missing(kept: Kept, log: list[Served]) -> list[str]:
    """What the servers gave and no record has; each record proves one answer only."""
    records = {
        index: (one.url, one.method, *parts(block)) for index, (one, block) in enumerate(kept.exchanges) if block
    }
    failures = {(one.url, one.method) for one, block in kept.exchanges if not block}
    refused = {one.url.removeprefix("urn:websocket:").replace("ws:", "http:", 1) for one in kept.made if one.url.startswith("urn:websocket:") and b'"status": 101' not in one.body}  # fmt: skip
    updates = [one.url for one in log if "/sw/sw.js" in one.url or "/sw/imported.js" in one.url]
    updates = list({*updates}) if len(updates) == 4 else []  # the browser's own check for a newer service worker
    lost = []
    for one in sorted(log, key=lambda one: not one.whole):
        found = next((index for index, record in records.items() if proves(record, one)), None)
        if found is not None:
            del records[found]
        elif one.url in updates:
            updates.remove(one.url)
        elif (one.url, one.method) not in failures and one.url not in refused:
            lost.append(f"{one.method} {one.url} {one.status} {len(one.body)} {one.whole}")
        else:
            refused.discard(one.url)
    return lost + [f"unknown: {record[:3]} {len(record[3])}" for record in records.values()]


def proves(record: tuple[str, str, int, bytes], served: Served) -> bool:
    url, method, status, body = record
    if (url, method, status) != (served.url, served.method, served.status):
        return False
    if status in (301, 302, 303, 307, 308):  # CDP gives no body of a redirect
        return body == b""
    if "/orb" in url:  # nor of what the browser keeps from the page
        return body == b""
    if not served.whole or "/media/" in url:  # a player stops reading where it has enough
        return served.body.startswith(body) and (len(body) > 0 or not served.body)
    return body == served.body


@needs_chromium
class TestTorture:
    def test_each_answer_has_its_record_with_what_was_served(self, torture):
        _, kept, log, _ = torture
        assert missing(kept, log) == []
        assert len(log) > 240

    def test_the_page_did_what_it_does_in_a_bare_load(self, torture, bare):
        rendered, *_ = torture
        assert torturesite.report_in(rendered.text) == bare
        assert "silent" not in bare.values()

    def test_what_the_page_sent_is_in_the_requests(self, torture):
        _, kept, log, _ = torture
        sent = Counter((one.url, one.request.partition(b"\r\n\r\n")[2]) for one, _ in kept.exchanges if one.method == "POST" and "length" not in one.url)  # fmt: skip
        assert sent == Counter((one.url, one.posted) for one in log if one.method == "POST" and "length" not in one.url)

    def test_what_was_sent_while_the_page_was_left_is_recorded(self, torture):
        _, kept, _, _ = torture
        for path in ("/beacon?left", "/keepalive?left"):
            exchange, _, body = kept.of(path)
            assert exchange.request.endswith(b"\r\n\r\nleft") and body

    def test_websockets_are_kept_message_by_message(self, torture):
        rendered, kept, _, sockets = torture
        records = [one for one in kept.made if one.url.startswith("urn:websocket:")]
        told = sorted((one.url.removeprefix("urn:websocket:"), by_way(messages(one.body))) for one in records if b'"status": 101' in one.body)  # fmt: skip
        served = sorted((one.url, by_way([message for message in one.messages if message[1] != 8])) for one in sockets)
        assert told == served and len(told) == 3
        assert {one.about for one in records} == {rendered.main.record_id}
        lines = [json.loads(line) for line in records[0].body.splitlines()]
        assert [one["event"] for one in lines[:3]] == ["request", "request head", "response"]
        assert lines[-1]["event"] == "closed" and lines[2]["text"].startswith("HTTP/1.1 101 ")

    def test_event_streams_are_copied_as_far_as_they_were_read(self, torture):
        _, kept, _, _ = torture
        assert kept.of("/events")[2] == torturesite.FIXED["/events"].body
        exchange, _, body = kept.of("/events/open")
        assert body.startswith(b"data: b\n\ndata: b\n\n") and exchange.truncated

    def test_what_is_missing_is_declared(self, torture):
        rendered, kept, _, _ = torture
        for exchange, block in kept.exchanges:
            status, body = parts(block) if block else (0, b"")
            if status in torturesite.REDIRECTING:
                assert ("OSINT-Omission", "the browser gives no body of a redirect") in exchange.notes
            if "/orb" in exchange.url:
                assert ("OSINT-Omission", "the browser kept the body from the page, and from us") in exchange.notes
            if "/endless" in exchange.url or "/cut" in exchange.url:
                assert exchange.truncated and body
        assert any("/api/404: the WebSocket was not opened" in one and "404)" in one for one in rendered.omissions)

    def test_page_info_tells_of_each_request(self, torture):
        rendered, kept, _, _ = torture
        resources = json.loads(kept.resources["pageinfo"].body)["resources"]
        ids = {str(one.record_id) for one in rendered.records}
        assert {one["record"] for one in resources if one["record"]} <= ids
        script = next(one for one in resources if one["url"].endswith("/s/7.js"))
        assert script["initiator"]["type"] == "parser" and script["frame"]["url"].endswith("/")
        assert script["started_at"] <= script["answered_at"] <= script["ended_at"]
        fresh = [one for one in resources if one["url"].endswith("/api/fresh")]
        assert [one["from"] for one in fresh].count("cache") == 2 and len({one["record"] for one in fresh}) == 1
        assert {one["from"] for one in resources if "/sw/made.txt" in one["url"]} == {"service worker"}


def by_way(messages: list[tuple[str, int, bytes]]) -> list[tuple[str, int, bytes]]:
    """Those sent before those received: how the two mix differs between the ends."""
    return sorted(messages, key=lambda one: one[0], reverse=True)


def messages(body: bytes) -> list[tuple[str, int, bytes]]:
    lines = [json.loads(line) for line in body.splitlines()]
    return [
        (one["event"], one["opcode"], one["text"].encode() if "text" in one else base64.b64decode(one["base64"]))
        for one in lines
        if one["event"] in ("sent", "received")
    ]


@needs_chromium
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_loads_lose_nothing_and_hang_nowhere(lab, site, bare, capsys):
    lost, wrong, hangs, took = [], [], 0, []
    for _ in range(20):
        start = time.monotonic()
        rendered, kept = lab.fetch(site.url + "/go", timeout_seconds=HANG_SECONDS, limit_bytes=128 << 20)
        took.append(time.monotonic() - start)
        hangs += rendered.timed_out
        site.settle()
        lost += missing(kept, site.taken()[0])
        report = torturesite.report_in(rendered.text)
        with capsys.disabled():
            print(f"{len(took)}: {took[-1]:.1f} s, {len(lost)} missing", flush=True)
        wrong += [f"{name}: {value} not {bare[name]}" for name, value in report.items() if value != bare[name]]
    with capsys.disabled():
        print(
            f"\n20 loads, {min(took):.1f}-{max(took):.1f} s: {len(lost)} missing, {len(wrong)} reports differ, {hangs} hangs"
        )
    assert (lost, wrong, hangs) == ([], [], 0)
