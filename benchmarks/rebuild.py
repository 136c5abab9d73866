"""Time and memory of `osint rebuild` for an archive of many captures, and of `osint recover` for a spool of many records.

    .venv/bin/python benchmarks/rebuild.py [--captures 100000] [--records 100000]

The captures are made by the real run, writer, journal, catalogue and store; only the wire is left out.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from osint_pipeline.preserve import upload  # noqa: E402
from osint_pipeline.run import Run  # noqa: E402
from osint_pipeline.source import make_sources  # noqa: E402
from osint_pipeline.workspace import Workspace  # noqa: E402
from settings.service import load  # noqa: E402
from spiders.page import Page, Post, PostKind, Verdict  # noqa: E402
from storage.exchange import Exchange  # noqa: E402
from storage.scratch import open_scratch  # noqa: E402

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
WORDS = ["затрыманыя", "суд", "вобшук", "прысуд", "горад", "рана", "вечар", "сведка", "улица", "арышт"]


def capture(run: Run, number: int) -> None:
    """Make one capture of a page with one post, as the crawl does."""
    url = f"http://outlet.example/{run.id.hex[-6:]}/{number}"
    text = " ".join(WORDS[(number * 7 + place * place) % len(WORDS)] + str(number % 97) for place in range(120))
    body = f"<html><head><title>{number}</title></head><body><article><p>{text}</p></article></body></html>".encode()
    now = datetime.now(UTC)
    wanted = run.captures.want(url, "page")
    request = f"GET /{number} HTTP/1.1\r\nHost: outlet.example\r\n\r\n".encode()
    exchange = Exchange(url=url, method="GET", started_at=now, ended_at=now, request=request, response=HEAD + body)
    ref = run.recorder.exchange(exchange, wanted)
    run.captures.answered(wanted, url=url, status=200, media_type="text/html", refs=[ref])
    post = Post(kind=PostKind.ARTICLE, platform="outlet.example", url=url, post_id=url, title=str(number), text=text)
    run.captures.read(wanted, Page(url=url, verdict=Verdict.CONTENT, posts=(post,)), None)


def fill(environ: dict[str, str], captures: int, per_run: int) -> None:
    """Make runs one after the other, and bring them to the store."""
    with Workspace(load(environ).service) as workspace:
        for first in range(0, captures, per_run):
            run = Run(workspace, one_source())
            for number in range(first, min(captures, first + per_run)):
                capture(run, number)
                if number % 200 == 199:
                    run.flush()
            run.end()
        for one in upload(workspace):
            assert not one.why, one


def leave(environ: dict[str, str], records: int, told: bool) -> None:
    """Append and sync, tell the catalogue or not, then die as by kill -9; to be called in a process of its own."""
    workspace = Workspace(load(environ).service).__enter__()
    run = Run(workspace, one_source())
    for number in range(records // 2):
        capture(run, number)
        if told and number % 200 == 199:
            run.flush()
    run.series.sync()
    os._exit(9)


def one_source():  # type: ignore[no-untyped-def]
    (source,) = make_sources(["http://outlet.example/"], spider="news", render="never", robots="obey", proxy=None)
    return source


def timed(environ: dict[str, str], *words: str) -> tuple[float, float, float, str]:
    """Run a command: wall seconds, CPU seconds, peak MiB, output."""
    code = (
        "import resource,subprocess,sys,json;"
        "d=subprocess.run(sys.argv[1:],capture_output=True,text=True);u=resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([d.returncode,u.ru_utime+u.ru_stime,u.ru_maxrss/1024,d.stdout[-4000:],d.stderr[-2000:]]))"
    )
    started = time.monotonic()
    command = [sys.executable, "-c", code, sys.executable, "-m", "osint_pipeline", *words]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=True)
    returned, cpu, peak, out, error = json.loads(done.stdout)
    assert returned in (0, 3), f"{words}: {returned}\n{out}\n{error}"
    return time.monotonic() - started, cpu, peak, out


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--captures", type=int, default=100_000)
    parser.add_argument("--per-run", type=int, default=5_000)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--leave", metavar="HOME", help=argparse.SUPPRESS)
    parser.add_argument("--told", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    plain = {key: value for key, value in os.environ.items() if not key.startswith("OSINT_")}
    if given.leave:
        leave({**plain, "OSINT_HOME": given.leave}, given.records, given.told)
    with tempfile.TemporaryDirectory(prefix="osint-rebuild-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        home = Path(folder) / "home"
        environ = {**plain, "OSINT_HOME": str(home)}
        subprocess.run(
            [sys.executable, "-m", "osint_pipeline", "up", "--servers"],
            env=environ,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        try:
            report(given, environ, home)
        finally:
            subprocess.run([sys.executable, "-m", "osint_pipeline", "down"], env=environ, cwd=ROOT, capture_output=True)


def report(given: argparse.Namespace, environ: dict[str, str], home: Path) -> None:
    started = time.monotonic()
    fill(environ, given.captures, given.per_run)
    filled = time.monotonic() - started
    wall, cpu, peak, out = timed(environ, "rebuild", "--check", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    differing = sum(row["differing"] for row in rows)
    counts = ", ".join(f"{row['rows']} {row['table']}" for row in rows if row["rows"])
    with Workspace(load(environ).service) as workspace, open_scratch(workspace.catalog) as fresh:
        from osint_pipeline.rebuild import beside, rebuild

        with beside(workspace, fresh) as other:
            started = time.monotonic()
            rebuild(other)
            alone = time.monotonic() - started
    size = sum(path.stat().st_size for path in (home / "store").rglob("*.warc.gz"))
    recovered = [recover(environ, home, given.records, "--told"), recover(environ, home, 2_000)]
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores (shared)\n")
    print("| what | wall s | CPU s | peak MiB | of it |\n|---|---|---|---|---|")
    print(
        f"| filling {given.captures} captures through run, writer, journal, catalogue, store | {filled:.1f} | | | {size / 1e6:.0f} MB of WARC |"
    )
    print(f"| rebuild alone (each WARC read back) | {alone:.1f} | | | {given.captures / alone:.0f} captures/s |")
    print(
        f"| `osint rebuild --check`: rebuild, compare, drop | {wall:.1f} | {cpu:.1f} | {peak:.0f} | {differing} rows differ |"
    )
    for records, told, wall, cpu, peak in recovered:
        print(f"| `osint recover` of {records} records {told} | {wall:.1f} | {cpu:.1f} | {peak:.0f} | |")
    print(f"\nCompared: {counts}.")


def recover(environ: dict[str, str], home: Path, records: int, *told: str) -> tuple[int, str, float, float, float]:
    """Kill a run after so many records, and recover."""
    leaving = [sys.executable, str(Path(__file__).resolve()), "--leave", str(home), "--records", str(records), *told]
    subprocess.run(leaving, env=environ, cwd=ROOT)
    wall, cpu, peak, _ = timed(environ, "recover")
    assert "nothing to mend" in timed(environ, "recover")[3]
    words = "of a killed run" if told else "that the catalogue was never told of, each page read again"
    return records, words, wall, cpu, peak


if __name__ == "__main__":
    main(sys.argv[1:])
