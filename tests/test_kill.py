"""kill -9 at random moments of crawl, seal and upload loses nothing that was reported, and doubles nothing."""

import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from osint_pipeline.samples import SampleSites
from storage.check import Result, check_warc
from tests.commands import Osint, kill_group

LONGEST_SECONDS = 6.0  # a crawl of 60 pages and pictures ends within this on two idle cores


def crawl_and_kill(osint: Osint, sites: SampleSites, moment_seconds: float) -> bool:
    """Kill a crawl with its whole process group after a while; tell whether it was still alive."""
    sites.visit = 1 + round(moment_seconds * 10) % 2
    crawl = osint.start("crawl", "--spider", "telegram", "--limit", "3", sites.telegram)
    try:
        crawl.wait(moment_seconds)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        kill_group(crawl)


def assert_all_is_well(osint: Osint) -> None:
    """Everything shown verifies, every WARC is valid, nothing stands twice."""
    osint.run("recover")
    osint.run("upload")
    counts = osint.claims()
    assert counts["FAIL"] == 0 and counts["PASS"] > 0
    assert not list((osint.home / "spool" / "open").glob("*.open"))
    seen: Counter[str] = Counter()
    for run in osint.rows("runs", "--limit", "1000"):
        assert run["outcome"] is not None
        for claim in osint.rows("verify", run["run"], code=None) if run["captured"] else []:
            assert claim["result"] == "PASS", claim
            seen[claim["subject"]] += 1
    sealed = sorted((osint.home / "spool" / "sealed").glob("*.warc.gz"))
    for warc in sealed:
        assert not [finding for finding in check_warc(warc, None) if finding.result is Result.FAIL]
    stored = sorted(path.name for path in (osint.home / "store").rglob("*.warc.gz"))
    assert stored == [warc.name for warc in sealed]
    posts = osint.rows("find", "--kind", "post", "--limit", "1000")
    assert len({(row["source"], row["post_id"]) for row in posts}) == len(posts)


def run_kills(home: Path, kills: int, seed: int) -> None:
    """Kill `kills` crawls at random moments, then look at what is left."""
    moments = random.Random(seed)
    osint = Osint(home)
    with SampleSites() as sites:
        osint.run("up")
        try:
            alive = sum(crawl_and_kill(osint, sites, moments.uniform(0.3, LONGEST_SECONDS)) for _ in range(kills))
            assert alive > kills // 4, "most crawls had ended before they were to be killed"
            assert_all_is_well(osint)
            osint.run("crawl", "--spider", "telegram", "--limit", "3", sites.telegram)
            assert_all_is_well(osint)
        finally:
            osint.run("down")


def test_twenty_kills(tmp_path: Path) -> None:
    run_kills(tmp_path / "home", 20, seed=20261123)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(5))
def test_two_hundred_kills(tmp_path: Path, seed: int) -> None:
    run_kills(tmp_path / "home", 200, seed)


def test_an_upload_killed_midway_is_finished_by_the_next(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    moments = random.Random(7)
    with SampleSites() as sites:
        osint.run("up")
        try:
            for limit in ("1", "2", "1"):
                osint.run("crawl", "--no-upload", "--spider", "telegram", "--limit", limit, sites.telegram, code=None)
            for _ in range(6):
                upload = osint.start("upload")
                try:
                    upload.wait(moments.uniform(0.6, 2.5))
                except subprocess.TimeoutExpired:
                    pass
                finally:
                    kill_group(upload)
            assert_all_is_well(osint)
        finally:
            osint.run("down")


def test_the_store_down_delays_and_loses_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    away = {
        "OSINT_S3_ENDPOINT": "http://127.0.0.1:9",
        "OSINT_S3_ACCESS_KEY": "away",
        "OSINT_S3_SECRET_KEY": "away",
        "OSINT_STORE_PATIENCE_SECONDS": "1",
    }
    down, osint = Osint(home, **away), Osint(home)
    with SampleSites() as sites:
        osint.run("up")
        try:
            done = down.run("crawl", "--spider", "telegram", "--limit", "1", sites.telegram, code=5)
            assert "waits in the spool" in done.stderr
            (run,) = osint.rows("runs")
            assert (run["outcome"], run["preserved"]) in {("complete", 0), ("partial", 0)}
            osint.run("upload")
            (run,) = osint.rows("runs")
            assert run["preserved"] == run["warc_files"] == 1
            assert_all_is_well(osint)
        finally:
            osint.run("down")
