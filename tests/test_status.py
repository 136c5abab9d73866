"""`osint status`: fits its screen, shows the worst first, works where nothing runs, and says no to scripts where something is wrong."""

import json
import os
import pty
import re
import select
import signal
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from osint_pipeline.alerts import look
from osint_pipeline.cli.status import view
from osint_pipeline.status import Need, attention, status, store_state
from osint_pipeline.workspace import Workspace
from settings.service import load
from tests.commands import Osint
from tests.rawserver import RawServer, answer
from tests.world import NOW, World, ago, emptied, open_workspace


@pytest.fixture
def workspace(tmp_path: Path, module_url: str) -> Iterator[Workspace]:
    with open_workspace(tmp_path, emptied(module_url)) as opened:
        yield opened


@pytest.fixture
def world(workspace: Workspace) -> World:
    return World(workspace.catalog)


def shown(workspace: Workspace, width: int, height: int | None) -> list[str]:
    console = Console(width=width, record=True, file=StringIO())
    console.print(view(status(workspace, NOW), width, height))
    return console.export_text().splitlines()


def many(world: World) -> None:
    with world.at_once():
        _many(world)


def _many(world: World) -> None:
    for number in range(200):
        source = world.source(f"a-source-whose-name-is-rather-long-{number:03}")
        reason = "layout changed: \x1b[31m[bold]no list\n in https://x.example/" + "a" * 300
        if number % 3:
            world.run(source, ago(hours=number), "failed", captured=0, failed=3, reason=reason)
            world.visit(source, ago(hours=number, minutes=1), outcome="failed")
        else:
            world.run(source, ago(minutes=number / 4))
    for number in range(3):
        detail = {"disk_bytes": 10**12, "disk_free_bytes": 10**11, "concurrency": 4, "running": ["a", "b"]}
        world.machine(f"machine-{number}", ago(seconds=number), **detail)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (160, 50), (200, 60)])
def test_two_hundred_sources_fit_on_a_screen(width: int, height: int, workspace: Workspace, world: World) -> None:
    many(world)
    look(workspace, NOW)
    lines = shown(workspace, width, height)
    assert height - 6 <= len(lines) <= height and max(len(line.rstrip()) for line in lines) <= width
    text = "\n".join(lines)
    assert "\x1b" not in text and ("[bold]" in text or width < 100), (
        "what a page says is shown as it is, and drives no terminal"
    )
    assert "200 watched, 0 paused, 133 need a look" in text and re.search(r"and \d+ more", text)
    assert all(word in text for word in ("machines", "queue", "runs", "spool", "store", "disk", "database", "alerts"))
    assert ("schedule" in text) == (width >= 120)


def test_all_are_shown_where_there_is_no_screen(workspace: Workspace, world: World) -> None:
    many(world)
    assert sum("a-source" in line for line in shown(workspace, 120, None)) == 133


def test_the_worst_come_first(workspace: Workspace, world: World) -> None:
    never = world.source("never")
    world.visit(never, ago(hours=30), "missed")
    older = world.source("older")
    world.run(older, ago(days=4))
    world.visit(older, ago(days=3), "missed")
    parked = world.source("parked")
    world.run(parked, ago(hours=3))
    world.visit(parked, ago(hours=2), "parked")
    for name, outcome in (("failed", "failed"), ("refused", "refused"), ("nothing", "partial")):
        source = world.source(name)
        world.run(source, ago(hours=2))
        world.run(source, ago(hours=1), outcome, captured=0)
    late, fine = world.source("late"), world.source("fine")
    world.run(late, ago(hours=2))
    world.visit(late, ago(hours=1), "due")
    world.run(fine, ago(minutes=2))
    world.source("paused", paused_at=ago(days=1))
    found = attention(status(workspace, NOW).measures, workspace.service)
    assert [(one.source.slug, one.need) for one in found] == [
        ("older", Need.SILENT), ("never", Need.SILENT), ("parked", Need.PARKED), ("nothing", Need.NOTHING),
        ("failed", Need.FAILED), ("refused", Need.REFUSED), ("late", Need.LATE),
    ]  # fmt: skip


def test_a_script_is_told_no_where_something_is_wrong(tmp_path: Path, module_url: str) -> None:
    url = emptied(module_url).replace("+psycopg", "")
    osint = Osint(tmp_path / "home", OSINT_DATABASE_URL=url)
    done = osint.run("status", "--check")
    assert "nothing is wrong" in done.stdout and "no worker ever ran" in done.stdout
    with open_workspace(tmp_path, module_url) as workspace:
        World(workspace.catalog).source("kanal")
    done = osint.run("status", "--check", code=3)
    assert "no worker ever ran" in done.stdout.splitlines()[0]
    (row,) = osint.rows("status")
    assert row["troubles"] == ["no worker ever ran"] and row["sources"] == {"watched": 1, "paused": 0}
    assert row["attention"][0]["need"] == "silent" and row["store"] == "embedded"


def test_a_store_that_is_away_is_shown_and_waited_for_no_longer_than_a_moment(tmp_path: Path, module_url: str) -> None:
    away = {"OSINT_S3_ENDPOINT": "http://127.0.0.1:9", "OSINT_S3_ACCESS_KEY": "k", "OSINT_S3_SECRET_KEY": "sssss"}
    with open_workspace(tmp_path, emptied(module_url), **away) as workspace:
        found = status(workspace, NOW)
        assert found.store == "away" and found.troubles == ("the object store cannot be reached",)
    with RawServer({"/": answer(b"")}) as server:
        there = load({"HOME": str(tmp_path), **away, "OSINT_S3_ENDPOINT": server.url}).service
        assert store_state(there) == "reachable"


def test_watch_goes_on_until_it_is_interrupted(tmp_path: Path, module_url: str) -> None:
    osint = Osint(tmp_path / "home", OSINT_DATABASE_URL=emptied(module_url).replace("+psycopg", ""))
    process = osint.start("status", "--watch", "0.2", "--json")
    try:
        assert process.stdout
        rows = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert rows[0]["at"] < rows[1]["at"] < rows[2]["at"]
    finally:
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said


def test_watch_on_a_terminal_refreshes_in_place(tmp_path: Path, module_url: str) -> None:
    with open_workspace(tmp_path, emptied(module_url)) as workspace:
        many(World(workspace.catalog))
    url = module_url.replace("+psycopg", "")
    environ = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "OSINT_DATABASE_URL": url}
    osint = Osint(tmp_path / "home", **environ)
    ours, theirs = pty.openpty()
    process = osint.start("status", "--watch", "0.2", stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + 40
    try:
        while seen.count(b"machine-0") < 3 and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.5)[0]:
                seen += os.read(ours, 65536)
    finally:
        os.killpg(process.pid, signal.SIGINT)
    try:
        while block := os.read(ours, 65536):
            seen += block
    except OSError:  # how a terminal says that nobody is there any more
        pass
    os.close(ours)
    assert process.wait(30) == 130
    assert seen.count(b"machine-0") >= 3 and seen.count(b"\x1b[?1049h") == 1 and b"\x1b[?1049l" in seen
    assert b"Traceback" not in seen


def test_a_crawl_is_logged_and_measured(tmp_path: Path, embedded_url: str) -> None:
    log = tmp_path / "osint.log"
    pages = {f"/{n}": answer(b"<html><body><p>a page of words</p></body></html>") for n in range(2)}
    url = embedded_url.replace("+psycopg", "")
    more = {"OSINT_LOG_FILE": str(log), "OSINT_LOG_LEVEL": "debug", "OSINT_MACHINE": "m1"}
    osint = Osint(tmp_path / "home", OSINT_DATABASE_URL=url, **more)
    with RawServer(pages | {"/gone": answer(b"no", b"403 Forbidden")}) as server:
        wanted = [f"{server.url}{path}" for path in ("/0", "/1", "/gone")]
        (run,) = osint.rows("crawl", "--spider", "page", "--render", "never", *wanted, code=None)
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    ours = [one for one in lines if one["logger"].startswith("osint_pipeline")]
    (ended,) = [one for one in ours if one["event"] == "the run ended"]
    assert ended["run"] == run["run"] and ended["captured"] == 2 and ended["machine"] == "m1"
    closed = [one for one in ours if one["event"] in ("captured", "refused") and "capture" in one]
    assert sorted(one["url"] for one in closed if "robots" not in one["url"]) == sorted(wanted)
    assert all(one["run"] == run["run"] and one["source"] for one in closed)
    scrapy = [one for one in lines if one["logger"].startswith("scrapy.core.engine")]
    assert scrapy and all(one["run"] == run["run"] for one in scrapy), "what Scrapy logs is of a run too"
    osint.run("verify", "--all", code=None)
    text = osint.run("metrics", "--once").stdout
    for line in (
        'osint_captures_total{state="captured"} 2.0',
        'osint_captures_refused_total{kind="status"} 1.0',
        "osint_verifications_total 1.0",
        "osint_verify_failures_total 0.0",
        "osint_warcs_preserved_total 1.0",
    ):
        assert line in text, line
    assert json.loads((tmp_path / "home" / "last-upload.json").read_text())["succeeded_at"]
