"""The store is away for a simulated day: crawls go on, nothing is lost, the upload waits, and then everything goes there."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from osint_pipeline.samples import SampleSites
from storage.objects import ObjectStore
from tests.commands import ROOT, Osint, kill_group
from tests.motoserver import MotoServer, missing_packages

FASTER = 5000  # the clocks of the waiting command: a day passes in 17 s
DAY_SECONDS = 86_400


def test_a_day_without_the_store_loses_nothing(tmp_path: Path) -> None:
    """libfaketime makes the waiting upload's day pass; moto stands in as the store."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime (Debian package faketime) is missing")
    if missing := missing_packages():
        pytest.skip(f"Python packages missing: {', '.join(missing)}")
    with MotoServer(tmp_path) as server:
        away = server.new_user("away")
    named = {
        "OSINT_S3_ENDPOINT": away.endpoint,
        "OSINT_S3_BUCKET": away.bucket,
        "OSINT_S3_ACCESS_KEY": away.access_key,
        "OSINT_S3_SECRET_KEY": away.secret_key,
        "OSINT_STORE_PATIENCE_SECONDS": "1",
    }
    osint = Osint(tmp_path / "home", **named)
    osint.run("up", "--servers")
    try:
        with SampleSites() as sites:
            crawl(osint, sites, 1)
            waits_for_a_day(Osint(osint.home, **named, **faked()), tmp_path / "said")
            crawl(osint, sites, 2)
        sealed = sorted(path.name for path in osint.home.glob("spool/sealed/*.warc.gz"))
        assert len(sealed) == 2
        with MotoServer(tmp_path, int(away.endpoint.rpartition(":")[2])):
            assert "2 preserved, 0 held back" in osint.run("upload").stdout
            with ObjectStore.open(away) as store:
                keys = [one.key.rsplit("/", 1)[1] for one in store.list("v1/warc/") if one.key.endswith(".gz")]
            assert sorted(keys) == sealed
            assert osint.claims()["FAIL"] == 0
            assert sum(row["differing"] for row in osint.rows("rebuild", "--check")) == 0
    finally:
        osint.run("down")


def crawl(osint: Osint, sites: SampleSites, visit: int) -> None:
    sites.visit = visit
    done = osint.run("crawl", "--spider", "telegram", "--limit", "2", sites.telegram, code=5)
    assert "wait" in done.stderr


def waits_for_a_day(osint: Osint, said: Path) -> None:
    """It is still at it when the day is over, and has not said so at each try; then it is killed."""
    with said.open("w+") as stream:
        waiting = osint.start("upload", "--wait", stdout=stream, stderr=stream)
        try:
            deadline = time.monotonic() + 60
            while "waiting: " not in said.read_text():
                assert waiting.poll() is None and time.monotonic() < deadline, said.read_text()
                time.sleep(0.05)
            time.sleep(DAY_SECONDS / FASTER)  # what is simulated, and no moment less
            assert waiting.poll() is None, said.read_text()
        finally:
            kill_group(waiting)
    assert said.read_text().count("waiting: ") < 5


def faked() -> dict[str, str]:
    """Give the environment of a process whose clocks run faster; its limits of real things are made as much longer."""
    asked = ["faketime", "-f", "+0", sys.executable, "-c", "import os; print(os.environ['LD_PRELOAD'])"]
    library = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "LD_PRELOAD": library,
        "FAKETIME": f"+0 x{FASTER}",
        "OSINT_DATABASE_CONNECT_SECONDS": str(60 * FASTER),
    }
