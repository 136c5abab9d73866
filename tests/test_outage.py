"""The store is away for a simulated day: crawls go on, nothing is lost, the upload waits, and then everything goes there."""

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from osint_pipeline.samples import SampleSites
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.objects import ObjectStore
from tests.commands import ROOT, Osint, kill_group
from tests.motoserver import MotoServer, missing_packages

HOURS = (0, 8, 16, 25)


def test_a_day_without_the_store_loses_nothing(tmp_path: Path) -> None:
    """The clock of the waiting upload is moved on by libfaketime; moto stands in as a store that looks at no date."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime (Debian package faketime) is missing")
    if missing := missing_packages():
        pytest.skip(f"Python packages missing: {', '.join(missing)}")
    with MotoServer(tmp_path) as server:
        away = server.new_user("away")
    clock = tmp_path / "clock"
    named = {
        "OSINT_S3_ENDPOINT": away.endpoint,
        "OSINT_S3_BUCKET": away.bucket,
        "OSINT_S3_ACCESS_KEY": away.access_key,
        "OSINT_S3_SECRET_KEY": away.secret_key,
        "OSINT_STORE_PATIENCE_SECONDS": "1",
    }
    osint = Osint(tmp_path / "home", **named)
    osint.run("up")
    faked = {"LD_PRELOAD": libfaketime(), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    with SampleSites() as sites, (tmp_path / "said").open("w+") as said:
        clock.write_text("+0h\n")
        waiting: subprocess.Popen[str] | None = None
        try:
            for number, hours in enumerate(HOURS):
                clock.write_text(f"+{hours}h\n")
                sites.visit = 1 + number % 2
                done = osint.run("crawl", "--spider", "telegram", "--limit", "2", sites.telegram, code=5)
                assert "wait" in done.stderr
                if waiting is None:
                    waiting = Osint(osint.home, **named, **faked).start("upload", "--wait", stdout=said, stderr=said)
                assert waiting.poll() is None
            sealed = sorted(path.name for path in osint.home.glob("spool/sealed/*.warc.gz"))
            assert len(sealed) == len(HOURS)
            with MotoServer(tmp_path, int(away.endpoint.rpartition(":")[2])):
                assert waiting is not None and waiting.wait(120) == 0
                said.seek(0)
                told = said.read()
                assert f"{len(HOURS)} preserved, 0 held back" in told
                assert 1 <= told.count("waiting: ") < 5, "it says it once, and not at each try"
                with ObjectStore.open(away) as store:
                    keys = [one.key.rsplit("/", 1)[1] for one in store.list("v1/warc/") if one.key.endswith(".gz")]
                assert sorted(keys) == sealed
                assert osint.claims()["FAIL"] == 0
                assert sum(row["differing"] for row in osint.rows("rebuild", "--check")) == 0
            waited = longest_wait(osint)
            assert timedelta(hours=24) <= waited < timedelta(hours=27)
        finally:
            if waiting:
                kill_group(waiting)
            osint.run("down")


def libfaketime() -> str:
    """Ask faketime which library it loads."""
    asked = [
        shutil.which("faketime") or "",
        "-f",
        "+0",
        sys.executable,
        "-c",
        "import os; print(os.environ['LD_PRELOAD'])",
    ]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def longest_wait(osint: Osint) -> timedelta:
    """How long, by the clocks of those who sealed and preserved it, a WARC waited."""
    with Workspace(load(osint.environ).service) as workspace:
        pairs = [(warc.preserved_at, warc.sealed_at) for warc in workspace.catalog.warcs()]
    return max(preserved - sealed for preserved, sealed in pairs if preserved and sealed)
