"""The main job on the bundled sample sites: two visits, uploaded, verified, pulled back, a near-duplicate found."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osint_pipeline.errors import Exit, UserError
from osint_pipeline.samples import SampleSites, pictures
from osint_pipeline.samples.channel import REPOSTED

MARK = ".made-by-osint-demo"
SAMPLE_HOST = "127-0-0-1-"  # the WARCs of the sample sites, and of nothing on the live web, are named so
OURS = {MARK, "spool", "spools", "postgres", "store", "pulled-by-demo", "photo-of-demo.jpg"}
TROUBLES = ("chain", "missing", "gone", "forbidden", "login", "busy", "tired", "cut", "inside")


@dataclass(slots=True)
class Report:
    """What the demo saw; rows are the runs' summaries, by visit."""

    home: Path
    visits: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    pulled: Path | None = None
    pulled_records: int = 0
    similar: list[dict[str, Any]] = field(default_factory=list)
    picture: Path | None = None
    edited: list[dict[str, Any]] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)


def run_demo(home: Path, say: Callable[[str], None]) -> Report:
    """Run it in a data folder of its own, which an earlier demo's contents are deleted from first.

    Raises UserError if the folder holds something that no demo made.
    """
    _empty(home)
    report = Report(home)
    with SampleSites() as sites:
        osint = _Osint(home)
        osint.run("up", "--servers")
        try:
            for visit in (1, 2):
                sites.visit = visit
                say(f"visit {visit}: crawling six sample sites on 127.0.0.1")
                report.visits[visit] = list(_visit(osint, sites))
            say("verifying every WARC, every record and the store's copies")
            for claim in osint.rows("verify", "--all", "--json"):
                report.claims[claim["result"]] = report.claims.get(claim["result"], 0) + 1
            _look(osint, report)
        finally:
            osint.run("down")
    return report


def _visit(osint: "_Osint", sites: SampleSites) -> Iterator[dict[str, Any]]:
    calls = {
        "Telegram channel": ("--spider", "telegram", sites.telegram),
        "news site": ("--spider", "news", "--limit", "80", sites.news),
        "script page": ("--spider", "page", sites.script_page),
        "video page": ("--spider", "video", sites.video),
        "troubles": ("--spider", "page", *(sites.troubled(name) for name in TROUBLES)),
    }
    for name, words in calls.items():
        for row in osint.rows("crawl", "--json", *words):
            yield {"name": name, **row}


def _look(osint: "_Osint", report: Report) -> None:
    report.found = osint.rows("find", "--json", "--kind", "post", "--limit", "3", "затрым")
    first = report.found[0] if report.found else None
    if first:
        pulled = osint.rows("pull", first["id"], "--out", str(report.home / "pulled-by-demo"), "--json")
        report.pulled, report.pulled_records = Path(pulled[0]["path"]), pulled[0]["records"]
    photo = report.home / "photo-of-demo.jpg"
    photo.write_bytes(pictures.recompressed(REPOSTED[0], quality=40, width=320))
    report.picture, report.similar = photo, osint.rows("similar", str(photo), "--json")


class _Osint:
    """Calls the command line as a person would, in a data folder of its own."""

    def __init__(self, home: Path) -> None:
        outer = {
            key: value for key, value in os.environ.items() if not key.startswith("OSINT_") or key == "OSINT_CHROMIUM"
        }
        self.environ = {
            **outer,
            "OSINT_HOME": str(home),
            "OSINT_ALLOW_NETWORKS": "127.0.0.0/8",
            "OSINT_DELAY_SECONDS": "0",
            "OSINT_CONCURRENCY_PER_HOST": "8",
            "OSINT_ORGANISATION": "demo",
        }

    def run(self, *words: str) -> str:
        """Run a command; what it prints, whatever its exit code says of the outcome."""
        command = [sys.executable, "-m", "osint_pipeline", *words]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True)
        if (
            done.returncode not in (Exit.COMPLETE, Exit.PARTIAL, Exit.REFUSED, Exit.FAILED)
            or "Traceback" in done.stderr
        ):
            raise UserError(f"`osint {words[0]}` ended with {done.returncode}", done.stderr.strip(), Exit.FAILED)
        return done.stdout

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """Run a command and read the JSON lines that it prints."""
        return [json.loads(line) for line in self.run(*words).splitlines() if line.strip()]


def _empty(home: Path) -> None:
    if home.exists():
        if not (home / MARK).exists() and any(home.iterdir()):
            raise UserError(f"{home} holds something that no demo made", "name another folder in OSINT_HOME")
        foreign = [path.name for path in home.glob("spool/*/*.warc.gz*") if not path.name.startswith(SAMPLE_HOST)]
        foreign += [path.name for path in home.iterdir() if path.name not in OURS]
        if foreign:
            what = f"{home} holds what no demo made ({foreign[0]})"
            raise UserError(what, "name another folder in OSINT_HOME; nothing was deleted")
        _Osint(home).run("down")
        shutil.rmtree(home)
    home.mkdir(parents=True, mode=0o700)
    (home / MARK).touch()


def totals(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Add up the counts of several runs."""
    out: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int):
                out[name] = out.get(name, 0) + value
    return out
