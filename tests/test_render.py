"""render = never, auto, always: who sees a page, and how often a wall is asked, with real servers and the real Chromium."""

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import plain
from sqlalchemy import text
from visiting import Visitor

from osint_pipeline.measures import measure
from osint_pipeline.reconcile import missing
from osint_pipeline.rereading import capture_again
from osint_pipeline.retrieve import Archive
from osint_pipeline.samples.server import Answer, Asked, Serving, html, redirect
from osint_pipeline.walls import walls_of
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.loading import records_by_capture

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
PROSE = "<p>" + "Сёння ў Вярхоўску затрымалі траіх рабочых, кажуць сведкі падзеі. " * 8 + "</p>"
ARTICLE = f"<html><head><title>Навіна</title></head><body><article><h1>Навіна</h1>{PROSE}</article></body></html>"
SHELL = f"""<html><head><title>App</title></head><body><div id="root"></div>
<script>document.getElementById("root").innerHTML = {PROSE!r}</script></body></html>"""
CHECK = "<html><head><title>Just a moment...</title></head><body><script>window._cf_chl_opt={};</script></body></html>"
LOGIN = "<html><head><title>Увайдзіце</title></head><body><h1>Увайдзіце на сайт</h1><form><input type=password></form></body></html>"
LATER = "<script>document.title = 'Увайдзіце'; document.body.innerHTML = '<h1>Увайдзіце на сайт</h1>'</script>"
LIST = "".join(f'<p><a href="/news/2026/11/2{one}/{1000 + one}.html">Навіна {one}</a></p>' for one in range(3))


@dataclass
class Site:
    """Notes who asked for what; Chromium alone says what an answer is for (Fetch Metadata)."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    opens: bool = True  # whether the walls before /news/ let the browser through
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Answer:
        who = "browser" if "sec-fetch-dest" in asked.headers else "wire"
        if asked.path in ("/robots.txt", "/favicon.ico"):
            return html("", status=404)
        with self.lock:
            self.asked.append((who, asked.path))
        return self._answer(asked.path, who)

    def _answer(self, path: str, who: str) -> Answer:
        if path.startswith("/news/"):
            return html(ARTICLE) if who == "browser" and self.opens else html(CHECK, status=403)
        if path == "/moved":
            return html(ARTICLE) if who == "browser" else redirect("/check")
        pages = {
            "/": html(LIST),
            "/shell": html(SHELL),
            "/hard": html(CHECK, status=503),
            "/check": html(CHECK),
            "/said": html("<p>…</p>", status=403, headers=(("CF-Mitigated", "challenge"),)),
            "/guarded": html("<title>Чакайце</title>DDoS-Guard", status=503, headers=(("Server", "ddos-guard"),)),
            "/login": html(LOGIN),
            "/private": html(f"<html><body><div id=root></div>{LATER}</body></html>"),
            "/plain": html(ARTICLE),
            "/file": html(ARTICLE, headers=(("Content-Disposition", "attachment"),)),
        }
        return pages.get(path, html("<h1>Старонка не знойдзена</h1>", status=404))


@dataclass
class Place:
    """A data folder, a database, a site, and how often Chromium was started."""

    visitor: Visitor
    site: Site
    url: str
    environ: dict[str, str]
    starts: Path

    def visit(self, path: str, render: str = "auto", spider: str = "page", **more: Any) -> dict[str, Any]:
        """Visit a page; the site's notes and the count of starts are those of this visit."""
        self.site.asked.clear()
        self.starts.unlink(missing_ok=True)
        environ = {**self.environ, **more}
        return self.visitor.visit(environ, self.url + path, spider, render=render)

    @property
    def started(self) -> int:
        return len(self.starts.read_text().splitlines()) if self.starts.exists() else 0

    def who(self, path: str) -> list[str]:
        return [who for who, asked in self.site.asked if asked == path]

    def workspace(self) -> Workspace:
        return Workspace(load(self.environ).service)

    def rows(self, query: str) -> list[Any]:
        with self.workspace() as opened, opened.catalog.begin() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def captures(self) -> list[Any]:
        return self.rows("SELECT kind, state, verdict FROM captures WHERE kind <> 'file' ORDER BY captured_at, kind")


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    with Visitor() as opened:
        yield opened


@pytest.fixture
def place(visitor: Visitor, tmp_path: Path, embedded_url: str) -> Iterator[Place]:
    starts, program = tmp_path / "starts", tmp_path / "chromium"
    program.write_text(f'#!/bin/sh\necho started >> {starts}\nexec {CHROMIUM} "$@"\n')
    program.chmod(0o755)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "OSINT_HOME": str(tmp_path / "home"),
        "OSINT_DATABASE_URL": plain(embedded_url),
        "OSINT_ALLOW_NETWORKS": "127.0.0.0/8",
        "OSINT_DELAY_SECONDS": "0",
        "OSINT_AGAIN_HOURS": "0",
        "OSINT_CHROMIUM": str(program),
    }
    site = Site()
    with Serving(site, lambda served: None) as serving:
        yield Place(visitor, site, serving.url, environ, starts)


def test_a_shell_goes_to_the_browser_unless_never(place: Place) -> None:
    assert place.visit("/shell", render="never")["outcome"] == "partial"
    assert (place.started, place.who("/shell")) == (0, ["wire"])
    run = place.visit("/shell")
    assert (run["outcome"], run["posts"], place.started) == ("complete", 1, 1)
    assert place.who("/shell") == ["wire", "browser"]
    assert place.captures()[1:] == [("page", "captured", "shell"), ("rendered", "captured", "content")]


def test_always_renders_and_plain_pages_are_not_rendered_by_auto(place: Place) -> None:
    run = place.visit("/plain", render="always")
    assert (run["outcome"], place.who("/plain"), place.started) == ("complete", ["browser"], 1)
    run = place.visit("/plain")
    assert (run["outcome"], place.who("/plain"), place.started) == ("complete", ["wire"], 0)


def test_an_answer_that_the_browser_does_not_open_is_no_captured_page(place: Place) -> None:
    place.visit("/file", render="always")
    assert place.captures() == [("rendered", "failed", None)]


def test_a_challenge_is_loaded_once_by_the_browser_and_not_again_within_the_time(place: Place) -> None:
    run = place.visit("/hard")
    assert (run["outcome"], run["wanted"], run["refused"], run["captured"]) == ("refused", 2, 2, 0)
    assert (place.started, sorted(place.who("/hard"))) == (1, ["browser", "wire"]), "loaded as it is, once"
    assert place.captures() == [("page", "refused", "challenge"), ("rendered", "refused", "challenge")]
    again = place.visit("/hard")
    assert (again["outcome"], again["wanted"], place.started) == ("refused", 1, 0)
    assert place.who("/hard") == ["wire"]
    with place.workspace() as opened:
        walls = {one.fetcher: one for one in walls_of(opened, place.url + "/")}
        assert (walls["wire"].verdict, walls["wire"].count, walls["wire"].exit) == ("challenge", 2, "direct")
        assert walls["wire"].since < walls["wire"].last_at
        assert {one.host for one in measure(opened.catalog).walls} == {"127.0.0.1"}


def test_a_challenge_that_only_the_head_tells_is_one_for_both_fetchers(place: Place) -> None:
    assert place.visit("/said")["outcome"] == "refused"
    rows = place.rows("SELECT kind, verdict, status, reason FROM captures ORDER BY kind")
    assert [row[:3] for row in rows] == [("page", "challenge", 403), ("rendered", "challenge", 403)]
    assert all(reason == "status 403: Cloudflare's check (it says so in the head)" for *_, reason in rows)
    place.visit("/guarded")
    assert place.captures()[-1:] == [("page", "refused", "challenge")], "the browser met the host's wall already"
    assert read_again(place) == place.rows(READ_AGAIN), "what its records alone tell after a crash is the same"


READ_AGAIN = "SELECT id, kind, state, verdict, reason FROM captures WHERE kind <> 'file' ORDER BY id"


def read_again(place: Place) -> list[Any]:
    with place.workspace() as opened, opened.catalog.begin() as connection:
        rows = connection.execute(
            text("SELECT id, run_id, source_id FROM captures WHERE kind <> 'file' ORDER BY id")
        ).all()
        refs = records_by_capture(connection, [row.id for row in rows])
        made = [
            capture_again(Archive(opened), refs[id_], id_=id_, run=run, source=source, spider="page").captures[0]
            for id_, run, source in rows
        ]
    return [(one.id, one.kind, one.state, one.verdict, one.reason) for one in made]


def test_a_wall_that_opens_for_the_browser_is_no_partial_run_and_is_lifted(place: Place) -> None:
    place.site.opens = False
    shut = place.visit("/", spider="news")
    assert (shut["refused"], place.started) == (4, 1), "of three articles behind one wall the browser tried the first"
    assert sum(who == "browser" for who, _ in place.site.asked) == 1
    place.site.opens = True
    place.visit("/", spider="news")
    assert place.started == 0, "a wall that was met is left alone for a time"
    opened = place.visit("/", spider="news", OSINT_WALL_HOURS="0")  # the time is up
    assert sum(who == "browser" for who, _ in place.site.asked) == 3
    assert (opened["outcome"], opened["posts"], opened["refused"]) == ("complete", 3, 3), opened
    with place.workspace() as workspace:
        (source,) = place.rows("SELECT id FROM sources")
        assert missing(workspace.catalog, source[0]) == [], "what the browser saw is not asked for again"


def test_a_redirect_to_a_challenge_is_looked_at_by_its_own_address(place: Place) -> None:
    run = place.visit("/moved")
    assert (run["outcome"], run["posts"], place.who("/moved")) == ("complete", 1, ["wire", "browser"])


def test_what_is_gone_or_behind_a_login_is_not_tried_by_the_browser(place: Place) -> None:
    assert place.visit("/login")["outcome"] == "refused"
    assert place.visit("/nothing")["captured"] == 1
    assert place.started == 0
    assert set(place.captures()) == {("page", "refused", "login_wall"), ("page", "captured", "gone")}


@pytest.mark.soak  # tests/test_walls.py has its short form
def test_a_login_wall_that_scripts_show_is_remembered_for_its_page_alone(place: Place) -> None:
    run = place.visit("/private")
    assert (run["refused"], place.started) == (1, 1)
    assert ("rendered", "refused", "login_wall") in place.captures()
    place.visit("/private")
    assert place.started == 0
    assert place.visit("/shell")["outcome"] == "complete", "another page of the host is"
