"""Captures replay in the viewers of others: a WACZ by py-wacz in ReplayWeb.page; a browser-made site, crawled anew, in pywb."""

import functools
import json
import os
import re
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import sync_playwright
from warcio.archiveiterator import ArchiveIterator

from osint_pipeline.replay.alike import plain
from osint_pipeline.replay.recorded import Recorded
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.records import payload, read_record
from storage.replays import rendered_captures
from tests import browsersite
from tests.commands import ROOT, Osint
from tests.test_replay import FLAGS, WAYBACK, replaying
from tests.test_replay_check import CHROMIUM, PAGES, needs_chromium

WACZ = WAYBACK.with_name("wacz")
VIEWER = ROOT / ".tools" / "replaywebpage"
SOLIDARITE = Path("archives/warc2zim/data/solidaritenum.warc.gz")
SEED = "https://www.solidarite-numerique.fr/tutoriels/comprendre-les-cookies/?thematique=internet"
INDEX = """<!doctype html><meta charset=utf-8><script src="/replay/ui.js"></script>
<replay-web-page source="/archive.wacz" url="{url}" ts="{ts}" embed="replayonly" replaybase="/replay/" style="display:block;height:760px"></replay-web-page>"""
LEAST_SHARED, LEAST_ASKED = 85, 90  # of the source's 94 addresses: 87 are asked for again, 96 in all (November 2026)


class _Files(BaseHTTPRequestHandler):
    """Serves bytes with HEAD and ranges, as the viewer needs them."""

    protocol_version = "HTTP/1.1"
    files: dict[str, tuple[str, bytes]]

    def do_GET(self) -> None:
        kind, body = self.files.get(self.path.partition("?")[0], ("", b""))
        status, fields = (200, {"Content-Type": kind, "Accept-Ranges": "bytes"}) if kind else (404, {})
        if kind and (ranged := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))):
            first = int(ranged[1]) if ranged[1] else max(0, len(body) - int(ranged[2]))
            last = min(int(ranged[2]), len(body) - 1) if ranged[1] and ranged[2] else len(body) - 1
            status, fields["Content-Range"] = 206, f"bytes {first}-{last}/{len(body)}"
            body = body[first : last + 1]
        self.send_response(status)
        for name, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def served(files: dict[str, tuple[str, bytes]]) -> Iterator[str]:
    """Serve files by path: (media type, bytes)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Files", (_Files,), {"files": files}))
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pack(warcs: list[Path], url: str, out: Path) -> str:
    """Make a WACZ of WARCs with one page, and let its maker validate it; give the page's time."""
    for warc in warcs:
        with warc.open("rb") as file:
            for record in ArchiveIterator(file):
                if record.rec_type == "response" and record.rec_headers.get_header("WARC-Target-URI") == url:
                    ts = re.sub(r"\D", "", record.rec_headers.get_header("WARC-Date"))[:14]
    command = [WACZ, "create", "-f", *warcs, "-o", out, "--url", url, "--ts", ts]
    subprocess.run(command, check=True, capture_output=True, cwd=out.parent)
    said = subprocess.run([WACZ, "validate", "-f", out], check=True, capture_output=True, text=True, cwd=out.parent)
    assert "Valid" in said.stdout + said.stderr or not said.returncode
    return ts


@pytest.mark.soak
@pytest.mark.timeout(300)
@needs_chromium
def test_a_wacz_of_a_capture_replays_in_replaywebpage(tmp_path: Path) -> None:
    for needed in (WACZ, VIEWER / "ui.js"):
        if not needed.exists():
            pytest.skip(f"{needed.relative_to(ROOT)} is not there: `make setup-dev` brings it where npm can be had")
    osint = Osint(tmp_path / "home", OSINT_ROBOTS="ignore:a test", OSINT_BEHAVIOURS="off")  # the viewer clicks nothing
    osint.run("up", "--servers")
    try:
        with browsersite.running(PAGES) as site:
            url = site.url + "/news"
            osint.run("crawl", "--spider", "page", "--render", "always", url, code=None)
        with Workspace(load(osint.environ).service) as workspace:
            (capture,) = rendered_captures(workspace.catalog)
            recorded = Recorded(workspace, capture.id)
            (ref,) = [one for one in recorded.refs if one.url.startswith("urn:text:")]
            live = payload(read_record(recorded.archive.member(ref))).decode()
    finally:
        osint.run("down")
    ts = pack(sorted((osint.home / "spool" / "sealed").glob("*.warc.gz")), url, tmp_path / "a.wacz")
    files = {
        "/": ("text/html", INDEX.format(url=url, ts=ts).encode()),
        "/archive.wacz": ("application/wacz", (tmp_path / "a.wacz").read_bytes()),
        "/replay/ui.js": ("text/javascript", (VIEWER / "ui.js").read_bytes()),
        "/replay/sw.js": ("text/javascript", (VIEWER / "sw.js").read_bytes()),
    }
    with served(files) as viewer, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(viewer)
        shown = page.frame_locator("iframe").frame_locator("iframe")
        shown.locator("#late", has_text="count").wait_for(timeout=60_000)  # what the page's script made of its requests
        text = shown.locator("body").inner_text()
        loaded = shown.locator("body").evaluate("() => [...document.images].map(one => one.naturalWidth)")
        page.screenshot(path=tmp_path / "shown.png")
        browser.close()
    differing = [pair for pair in zip(live.split(), text.split(), strict=True) if pair[0] != pair[1]]
    assert [pair[0] for pair in differing] == [
        "206",
        "90",
    ]  # it shows no part of a file that begins behind byte 0 (2.4.6)
    assert loaded == [400, 400]


@pytest.mark.soak
@pytest.mark.timeout(600)
@needs_chromium
def test_a_browser_made_archive_crawled_and_replayed_again_is_the_same(tmp_path: Path) -> None:
    """The site is played by pywb from the WARC of another browser recorder; what we record of it has the same digests."""
    corpora = os.environ.get("OSINT_CORPORA")
    if not corpora or not (source := Path(corpora) / SOLIDARITE).is_file():
        pytest.skip(f"OSINT_CORPORA names no folder that holds {SOLIDARITE}")
    blind = tmp_path / "chromium"  # pywb makes its certificates itself
    blind.write_text(f'#!/bin/sh\nexec {CHROMIUM} --ignore-certificate-errors "$@"\n')
    blind.chmod(blind.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "live").mkdir()
    osint = Osint(tmp_path / "home", OSINT_CHROMIUM=str(blind))
    osint.run("up", "--servers")
    try:
        with replaying(tmp_path / "live", [source]) as proxy:
            crawling = Osint(osint.home, OSINT_CHROMIUM=str(blind), OSINT_PROXY=proxy)
            crawling.run("crawl", "--spider", "page", "--render", "always", "--limit", "1", SEED, code=None)
        (check,) = Osint(osint.home).rows("replay", "--check", "--all", code=None)
        ours = digests_of(osint, check["capture"])
    finally:
        osint.run("down")
    theirs = digests_in(source)
    both = theirs.keys() & ours.keys()
    figures = {
        "source": len(theirs),
        "ours": len(ours),
        "both": len(both),
        "equal": sum(theirs[one] in ours[one] for one in both),
    }
    print(
        json.dumps(
            {**figures, **{name: check[name] for name in ("text_ratio", "picture_bits", "asked", "found", "score")}}
        )
    )
    assert figures["equal"] == figures["both"] >= LEAST_SHARED and figures["ours"] >= LEAST_ASKED
    assert {one for one in theirs if "/wp-content/" in one and theirs[one][0] == 200} <= ours.keys()
    assert check["text_ratio"] == 1.0 and check["found"] >= check["asked"] - 6
    assert check["picture_bits"] <= 8  # the page has a carousel


def digests_in(warc: Path) -> dict[str, tuple[int, str]]:
    """Read status and payload digest of each address in a WARC."""
    found = {}
    with warc.open("rb") as file:
        for record in ArchiveIterator(file):
            if record.rec_type == "response":
                url = plain(record.rec_headers.get_header("WARC-Target-URI"))
                found[url] = (
                    int(record.http_headers.get_statuscode()),
                    sha256(record.content_stream().read()).hexdigest(),
                )
    return found


def digests_of(osint: Osint, capture: str) -> dict[str, set[tuple[int | None, str | None]]]:
    """Read those of each address in a capture."""
    found: dict[str, set[tuple[int | None, str | None]]] = {}
    with Workspace(load(osint.environ).service) as workspace:
        for one in Recorded(workspace, UUID(capture)).own:
            found.setdefault(plain(one.ref.url), set()).add((one.ref.status, one.ref.payload_sha256))
    return found
