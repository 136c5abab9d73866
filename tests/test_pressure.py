"""A full spool: the crawl slows, pauses, says so, brings what it has to the store and goes on, or ends with the reason."""

import contextlib
import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_crawl_faults import COMPLETE, DISK, balanced, claims, crawl_words, pages, wait_until
from test_kill import assert_all_is_well

from osint_pipeline.pressure import Level, Load, Marks
from storage.embedded_store import EmbeddedStore
from tests.commands import Osint, kill_group
from tests.rawserver import RawServer

MARKS = Marks(high_bytes=1000, free_bytes=500, low_share=0.8)
PAGES = 60
PAGE_BYTES = 40_000  # half of it is left once it is compressed
AWAY = {"OSINT_S3_ENDPOINT": "http://127.0.0.1:9", "OSINT_S3_ACCESS_KEY": "away", "OSINT_S3_SECRET_KEY": "away"}


def load(waiting_bytes: int, free_bytes: int = 1_000_000) -> Load:
    return Load(waiting_bytes=waiting_bytes, free_bytes=free_bytes, disk_bytes=1_000_000)


@pytest.mark.parametrize(
    ("seen", "before", "after"),
    [
        (load(0), Level.FREE, Level.FREE),
        (load(800), Level.FREE, Level.FREE),
        (load(801), Level.FREE, Level.SLOW),
        (load(999), Level.SLOW, Level.SLOW),
        (load(1000), Level.SLOW, Level.FULL),
        (load(900), Level.FULL, Level.FULL),
        (load(800), Level.FULL, Level.FREE),
        (load(0, free_bytes=600), Level.FREE, Level.SLOW),
        (load(0, free_bytes=500), Level.FREE, Level.FULL),
        (load(0, free_bytes=0), Level.FREE, Level.FULL),
        (load(0, free_bytes=626), Level.FULL, Level.FREE),
    ],
)
def test_the_level_follows_the_marks(seen: Load, before: Level, after: Level) -> None:
    assert seen.level(MARKS, before) is after


def test_no_mark_is_no_limit_and_a_small_disk_keeps_a_tenth_free() -> None:
    none = Marks(high_bytes=0, free_bytes=0, low_share=0.8)
    assert load(10**12, free_bytes=0).level(none, Level.FREE) is Level.FREE
    usual = Marks(high_bytes=0, free_bytes=2_000_000_000, low_share=0.8)
    assert Load(waiting_bytes=0, free_bytes=0, disk_bytes=1_000_000).needed_bytes(usual) == 100_000
    assert Load(waiting_bytes=0, free_bytes=0, disk_bytes=10**12).needed_bytes(usual) == 2_000_000_000


def listed(server: RawServer, folder: Path, count: int = PAGES) -> str:
    """Write a list of the server's pages to crawl."""
    path = folder / "urls.txt"
    path.write_text("\n".join(f"{server.url}/{at}" for at in range(count)))
    return str(path)


def result(done: "subprocess.CompletedProcess[str]", code: int) -> dict[str, Any]:
    assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
    run: dict[str, Any] = json.loads(done.stdout)
    assert balanced(run), run
    return run


def test_a_crawl_above_the_mark_brings_what_it_has_to_the_store_and_goes_on(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home", OSINT_SPOOL_HIGH_BYTES="250_000", OSINT_SYNC_SECONDS="0.05")
    osint.run("up", "--servers")
    try:
        with RawServer(pages(PAGES, PAGE_BYTES)) as server:
            done = osint.run(*crawl_words("--file", listed(server, tmp_path)), code=None)
            run = result(done, COMPLETE)
            assert len(server.requests) == PAGES + 1, "robots.txt, and each page once"
        assert (run["captured"], run["preserved"]) == (PAGES, run["warc_files"]) and run["warc_files"] > 2, run
        said = done.stderr.splitlines()
        pauses = [line for line in said if "the crawl pauses" in line]
        assert pauses and "of 0.2 MB wait for the store" in pauses[0], said
        assert any("goes on" in line for line in said), said
        assert not osint.rows("recover"), "nothing was lost or left"
        assert claims(osint)["UNVERIFIABLE"] == 0
        assert len(osint.rows("find", "--kind", "page", "--limit", "200", "старонка")) == PAGES
    finally:
        osint.run("down")


def test_a_crawl_whose_store_is_away_ends_with_the_reason_and_loses_nothing(tmp_path: Path) -> None:
    marks = {"OSINT_SPOOL_HIGH_BYTES": "250_000", "OSINT_SPOOL_WAIT_SECONDS": "2", "OSINT_SYNC_SECONDS": "0.05"}
    home = tmp_path / "home"
    osint = Osint(home)
    osint.run("up", "--servers")
    try:
        with RawServer(pages(PAGES, PAGE_BYTES)) as server:
            away = Osint(home, **marks, **AWAY, OSINT_STORE_PATIENCE_SECONDS="0.5")
            done = away.run(*crawl_words("--file", listed(server, tmp_path)), code=None)
            run = result(done, DISK)
            assert len(server.requests) < PAGES, "a paused crawl asks for nothing"
        assert run["outcome"] == "partial" and 0 < run["captured"] < PAGES and run["wanted"] == PAGES, run
        assert "wait for the store" in run["reason"] and "nothing left it for 2 s" in run["reason"], run
        assert len([line for line in done.stderr.splitlines() if "the crawl pauses" in line]) == 1, done.stderr
        (status,) = osint.rows("spool")
        assert status["waiting_warcs"] == run["warc_files"] and status["waiting_bytes"] > 200_000, status
        assert not osint.rows("recover"), "an orderly end leaves nothing to mend"
        osint.run("upload")
        assert claims(osint)["UNVERIFIABLE"] == 0
        (row,) = osint.rows("runs")
        assert row["captured"] == run["captured"] and row["preserved"] == row["warc_files"], row
    finally:
        osint.run("down")


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of a store that is named, and so counts as one that keeps what it says it has."""
    store = EmbeddedStore(tmp_path / "elsewhere")
    config = store.start()
    yield {
        "OSINT_S3_ENDPOINT": config.endpoint,
        "OSINT_S3_ACCESS_KEY": config.access_key,
        "OSINT_S3_SECRET_KEY": config.secret_key,
    }
    store.leave()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_crawl_that_is_larger_than_the_disk_goes_through_it(
    tmp_path: Path, durable: dict[str, str], small_disk: Path
) -> None:
    osint = Osint(
        tmp_path / "home",
        **durable,
        OSINT_SPOOL=str(small_disk / "spool"),
        OSINT_SPOOL_HIGH_BYTES="600_000",
        OSINT_RETAIN_HOURS="0",
        OSINT_SYNC_SECONDS="0.05",
    )
    osint.run("up", "--servers")
    try:
        with RawServer(pages(200, PAGE_BYTES)) as server:
            run = result(osint.run(*crawl_words("--file", listed(server, tmp_path, 200)), code=None), COMPLETE)
        assert run["captured"] == 200 and run["preserved"] == run["warc_files"], run
        stored = sum(path.stat().st_size for path in (tmp_path / "elsewhere").rglob("*.warc.gz"))
        assert stored > 4 << 20, stored
        assert not list((small_disk / "spool" / "sealed").glob("*.warc.gz")), "every local copy has gone"
        assert claims(osint)["UNVERIFIABLE"] == 0
    finally:
        osint.run("down")


def test_a_crawl_that_may_not_upload_waits_for_another_command_to_do_so(tmp_path: Path) -> None:
    osint = Osint(
        tmp_path / "home", OSINT_SPOOL_HIGH_BYTES="250_000", OSINT_SPOOL_WAIT_SECONDS="1", OSINT_SYNC_SECONDS="0.05"
    )
    osint.run("up", "--servers")
    try:
        with RawServer(pages(PAGES, PAGE_BYTES)) as server:
            done = osint.run(*crawl_words("--no-upload", "--file", listed(server, tmp_path)), code=None)
            run = result(done, DISK)
        assert run["preserved"] == 0 and run["captured"] < PAGES, run
    finally:
        osint.run("down")


def test_a_crawl_killed_while_it_drains_loses_nothing(tmp_path: Path) -> None:
    """WARCs of a living run are in the store already when it is killed, some with captures that are not closed yet."""
    osint, moments = (
        Osint(tmp_path / "home", OSINT_SPOOL_HIGH_BYTES="150_000", OSINT_SYNC_SECONDS="0.05"),
        random.Random(9),
    )
    osint.run("up", "--servers")
    try:
        with RawServer(pages(PAGES, PAGE_BYTES)) as server:
            urls, drained = listed(server, tmp_path), 0
            for _ in range(6):
                crawl, asked = osint.start(*crawl_words("--file", urls)), len(server.requests)
                try:
                    wait_until(lambda: len(server.requests) > asked)  # noqa: B023
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        crawl.wait(moments.uniform(0.3, 4.0))
                finally:
                    kill_group(crawl)
                drained += len(list((osint.home / "store").rglob("*.warc.gz")))
            assert drained, "no crawl came to drain before it was killed"
        assert_all_is_well(osint)
        captured = sum(row["captured"] for row in osint.rows("runs", "--limit", "100"))
        found = {one for row in osint.rows("find", "--kind", "page", "--limit", "1000") for one in row["captures"]}
        assert len(found) == captured > 0
    finally:
        osint.run("down")
