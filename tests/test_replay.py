"""Our WARCs replay in pywb, the reader that others use: the same DOM in Chromium as live, without the network."""

import gzip
import hashlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, sync_playwright

from osint_pipeline.samples import SampleSites
from storage.records import open_warc, payload, read_record
from tests.commands import ROOT, Osint

WAYBACK = ROOT / ".venv-replay" / "bin" / "wayback"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
CONFIG = """
proxy:
  coll: archive
  enable_banner: false
  enable_content_rewrite: false
  enable_wombat: false
framed_replay: false
"""


@contextmanager
def replaying(folder: Path, warcs: list[Path]) -> Iterator[str]:
    """Serve WARCs by pywb as an HTTP proxy."""
    if not WAYBACK.exists():
        pytest.skip("pywb is not installed: `make setup-dev` makes .venv-replay")
    run = {"cwd": folder, "check": True, "capture_output": True}
    manager = WAYBACK.with_name("wb-manager")
    subprocess.run([manager, "init", "archive"], **run)
    subprocess.run([manager, "add", "archive", *warcs], **run)
    (folder / "config.yaml").write_text(CONFIG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder / "log").open("wb")
    server = subprocess.Popen([WAYBACK, "-b", "127.0.0.1", "-p", str(port)], cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def dom(browser: Browser, url: str, ready: str) -> str:
    """Load a page and give its DOM once `ready` is there."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url, wait_until="load")
    page.wait_for_function(ready)
    html = page.content()
    context.close()
    return html


@pytest.mark.timeout(200)
def test_a_page_replays_with_the_same_dom_as_live(tmp_path: Path) -> None:
    if not (chromium := shutil.which("chromium")):
        pytest.skip("no chromium in the path")
    osint = Osint(tmp_path / "home")
    ready = "document.body.innerText.length > 300"
    with SampleSites() as sites, sync_playwright() as playwright:
        osint.run("up", "--servers")
        try:
            osint.run("crawl", "--spider", "page", "--render", "always", sites.script_page)
            osint.run(
                "crawl", "--spider", "page", "--render", "always", sites.script_page
            )  # all but the first are revisits
            pages = osint.rows("find", "--kind", "page")
            records = osint.rows("show", pages[0]["id"])[0]["records"]
        finally:
            osint.run("down")
        live = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        seen = dom(live, sites.script_page, ready)
        live.close()
        url = sites.script_page
        sites.close()  # from here on nothing but the archive answers
        warcs = sorted((osint.home / "spool" / "sealed").glob("*.warc.gz"))
        assert archived_dom(warcs, records) == seen
        (tmp_path / "replay").mkdir()
        with replaying(tmp_path / "replay", warcs) as proxy:
            replay = playwright.chromium.launch(
                executable_path=chromium, args=[*FLAGS, "--proxy-bypass-list=<-loopback>"], proxy={"server": proxy}
            )
            again = dom(replay, url, ready)
            replay.close()
    assert again == seen


def archived_dom(warcs: list[Path], records: list[dict[str, object]]) -> str:
    """Read the rendered DOM that the capture keeps."""
    place = [record for record in records if str(record["url"]).startswith("urn:dom:")][-1]
    (warc,) = [path for path in warcs if path.name == place["warc"]]
    offset, length = int(str(place["offset"])), int(str(place["length"]))
    with warc.open("rb") as file:
        file.seek(offset)
        return payload(read_record(file.read(length))).decode()


def test_other_readers_see_the_same_records(tmp_path: Path) -> None:
    from fastwarc.warc import ArchiveIterator as FastReader
    from warcio.archiveiterator import ArchiveIterator

    osint = Osint(tmp_path / "home")
    with SampleSites() as sites:
        osint.run("crawl", "--spider", "telegram", "--limit", "2", sites.telegram)
    warcs = sorted((osint.home / "spool" / "sealed").glob("*.warc.gz"))
    for warc in warcs:
        with warc.open("rb") as file:
            one = [record.rec_headers.get_header("WARC-Record-ID") for record in ArchiveIterator(file)]
        with warc.open("rb") as file:
            two = [record.headers["WARC-Record-ID"] for record in FastReader(file)]
        ours = []
        with open_warc(warc) as reader:
            while streamed := reader.next():
                ours.append(streamed.header.get("WARC-Record-ID"))
                streamed.finish()
        assert one == two == ours and len(ours) > 40
        index = subprocess.run(
            [str(ROOT / ".venv" / "bin" / "cdxj-indexer"), str(warc)], capture_output=True, text=True, check=True
        )
        assert len(index.stdout.splitlines()) > 20


@pytest.mark.timeout(200)
def test_a_304_is_indexed_and_leaves_what_it_refers_to_replayable(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    with SampleSites() as sites:
        osint.run("up", "--servers")
        try:
            for _ in range(2):
                osint.run("crawl", "--new", "--spider", "page", sites.news)
            captures = osint.rows("find", "--kind", "page")
        finally:
            osint.run("down")
        url, sent = sites.news, next(one for one in sites.log if one.path == "/" and one.status == 200)
        assert [one.status for one in sites.log if one.path == "/"] == [200, 304]
    first, second = sorted(row["captured_at"] for row in captures)
    warcs = sorted((osint.home / "spool" / "sealed").glob("*.warc.gz"))
    (tmp_path / "replay").mkdir()
    with replaying(tmp_path / "replay", warcs) as proxy:
        with urlopen(f"{proxy}/archive/{digits(first)}id_/{url}", timeout=30) as answer:
            body = answer.read()
        with pytest.raises(HTTPError) as said:
            urlopen(f"{proxy}/archive/{digits(second)}id_/{url}", timeout=30)
        said.value.close()
    body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    assert hashlib.sha256(body).hexdigest() == sent.content_sha256
    assert said.value.code == 304


def digits(time_: str) -> str:
    return re.sub(r"\D", "", time_)[:14]
