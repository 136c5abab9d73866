"""kill -9 at random moments of crawl, seal and upload loses nothing that was reported, and doubles nothing."""

import random
import subprocess
import time
from pathlib import Path

import pytest

from osint_pipeline.samples import SampleSites
from storage.check import Result, check_warc
from tests.commands import Osint, kill_group
from tests.zygote import Zygote

WHAT = {"crawl": 12, "upload": 3, "recover": 4, "verify": 1}  # how often each is killed, of 20 kills
CHECKED_EVERY = 50


def assert_all_is_well(osint: Osint) -> None:
    """Everything shown verifies, every WARC is valid, nothing stands twice, the store alone gives the same catalogue."""
    osint.run("recover")
    osint.run("upload")
    assert "nothing to mend" in osint.run("recover").stdout
    counts = osint.claims()
    assert counts["FAIL"] == 0 and counts["PASS"] > 0
    assert not list((osint.home / "spool" / "open").glob("*.open"))
    runs = osint.rows("runs", "--limit", "10000")
    assert all(run["outcome"] is not None and run["preserved"] == run["warc_files"] for run in runs)
    for run in runs:
        assert run["wanted"] == run["captured"] + run["refused"] + run["truncated"] + run["failed"]
    sealed = sorted((osint.home / "spool" / "sealed").glob("*.warc.gz"))
    assert sum(run["warc_files"] for run in runs) == len(sealed)
    for warc in sealed:
        assert not [finding for finding in check_warc(warc, None) if finding.result is Result.FAIL]
    stored = sorted(path.name for path in (osint.home / "store").rglob("*.warc.gz"))
    assert stored == [warc.name for warc in sealed]
    posts = osint.rows("find", "--kind", "post", "--limit", "1000")
    assert len({(row["source"], row["post_id"]) for row in posts}) == len(posts)
    assert sum(row["differing"] for row in osint.rows("rebuild", "--check")) == 0


def run_kills(home: Path, kills: int, seed: int) -> None:
    """Kill commands at random moments of their lives; look at what is left now and then, and at the end."""
    dice = random.Random(seed)
    osint = Osint(home)
    with SampleSites() as sites:
        osint.run("up", "--servers")
        try:
            with Zygote(osint.environ, home.with_name("log")) as zygote:
                words = {
                    "crawl": ("crawl", "--spider", "telegram", "--limit", "2", sites.telegram),
                    "upload": ("upload",),
                    "recover": ("recover",),
                    "verify": ("verify", "--all"),
                }
                lasting = dict.fromkeys(words, 1.0)  # seconds that each takes when nobody kills it
                alive = 0
                for number in range(kills):
                    if number % CHECKED_EVERY == 0:
                        lasting |= {name: how_long(zygote, *words[name]) for name in words}
                        assert_all_is_well(osint) if number else None
                    sites.visit = dice.choice((1, 2))
                    name = dice.choices(list(WHAT), list(WHAT.values()))[0]
                    pid = zygote.start(*words[name])
                    alive += zygote.ended(pid, dice.uniform(0, lasting[name])) is None
                    zygote.kill(pid)
                assert alive > kills // 2, "most commands had ended before they were to be killed"
                assert_all_is_well(osint)
                assert zygote.run(*words["crawl"]) in (0, 3)
            assert_all_is_well(osint)
            print(
                f"{kills} kills, {alive} of them of a living process, {len(osint.rows('runs', '--limit', '10000'))} runs"
            )
        finally:
            osint.run("down")


def how_long(zygote: Zygote, *words: str) -> float:
    started = time.monotonic()
    assert zygote.run(*words) in (0, 3)
    return time.monotonic() - started


def test_thirty_kills(tmp_path: Path) -> None:
    run_kills(tmp_path / "home", 30, seed=20261123)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_kills(tmp_path: Path, seed: int) -> None:
    """250 for each seed: the archive that is looked at stays small enough to be looked at often."""
    run_kills(tmp_path / "home", 250, seed)


def test_an_upload_killed_midway_is_finished_by_the_next(tmp_path: Path) -> None:
    osint = Osint(tmp_path / "home")
    moments = random.Random(7)
    with SampleSites() as sites:
        osint.run("up", "--servers")
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
        osint.run("up", "--servers")
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
