"""Watched sources: added once, changed with an event for each, due when they should be, and put back from a signed snapshot."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import plain
from sqlalchemy import text

from osint_pipeline.due import due_at, set_due
from osint_pipeline.errors import UserError
from osint_pipeline.sources import Done, Wanted, What, edit, find, put, run_now, set_state
from osint_pipeline.state import PREFIX, State, canonical, newest_state, note_state, restore
from osint_pipeline.workspace import Workspace
from settings.service import load
from storage.finding import check_events, list_events
from storage.ids import new_id
from storage.rebuilding import is_empty
from storage.rows import SourceRow
from storage.sources import ensure_source
from storage.standing import standings
from storage.walls import Wall, note_walls
from storage.watch_lists import list_words, put_words
from storage.watched import CatchUp, WatchRow, list_watched, put_watch
from tests.commands import Inside

CHANNEL = "https://t.me/s/kanal"


@pytest.fixture
def workspace(tmp_path: Path, embedded_url: str) -> Iterator[Workspace]:
    """A data folder and a database of its own."""
    environ = {
        "OSINT_HOME": str(tmp_path / "home"),
        "OSINT_DATABASE_URL": plain(embedded_url),
        "OSINT_COLLECTOR": "c-7",
    }
    with Workspace(load({"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environ}).service) as opened:
        yield opened


def add(workspace: Workspace, url: str = CHANNEL, *, later: bool = False, **given: str) -> Done:
    texts = {name.replace("_", "-"): value for name, value in given.items()}
    (done,) = put(workspace, [Wanted(url=url, given=texts)], again=True, later=later)
    return done


def due(workspace: Workspace, slug: str) -> datetime | None:
    watched = find(workspace.catalog, slug, removed=True)
    return standings(workspace.catalog)[watched.source.id].due_at


def told(workspace: Workspace, slug: str) -> list[tuple[str, Any]]:
    return [(event.kind, event.detail) for event in list_events(workspace.catalog, subject=slug)]


def test_a_source_is_added_once_with_an_event_and_is_due_now(workspace: Workspace) -> None:
    before = datetime.now(UTC)
    done = add(workspace, every="*/15 * * * *", tags="minsk, courts,minsk", limit_bytes="500MB", languages="be,ru")
    assert done.what is What.ADDED and done.slug
    (watched,) = list_watched(workspace.catalog)
    assert (watched.source.url, watched.source.spider, watched.watch.schedule) == (CHANNEL, "telegram", "*/15 * * * *")
    assert (watched.watch.tags, watched.watch.languages) == (("minsk", "courts"), ("be", "ru"))
    assert watched.watch.limit_bytes == 500_000_000
    at = due(workspace, done.slug)
    assert at and before <= at <= datetime.now(UTC)
    ((kind, detail),) = told(workspace, done.slug)
    assert kind == "source added" and (detail["who"], detail["url"]) == ("c-7", CHANNEL)
    assert detail["options"]["limit-bytes"] == "500MB"
    assert check_events(workspace.catalog) is None


@pytest.mark.parametrize(
    "spelling",
    [
        "@kanal",
        "t.me/kanal",
        "https://T.ME/s/Kanal",
        "tg://resolve?domain=kanal",
        CHANNEL + "#x",
        "https://t.me:443/s/kanal",
    ],
)
def test_another_spelling_is_the_same_source(workspace: Workspace, spelling: str) -> None:
    first = add(workspace)
    assert add(workspace, spelling).what is What.UNCHANGED
    assert add(workspace, spelling, every="0 * * * *").what is What.DIFFERS
    assert [one.watch.schedule for one in list_watched(workspace.catalog)] == [None]
    assert find(workspace.catalog, spelling).source.slug == first.slug
    assert len(told(workspace, str(first.slug))) == 1


def test_of_single_pages_each_address_is_a_source(workspace: Workspace) -> None:
    urls = [f"https://ngo.example/reports/{number}?a=b" for number in (1, 2)]
    slugs = {add(workspace, url).slug for url in urls}
    assert len(slugs) == 2 and {one.source.url for one in list_watched(workspace.catalog)} == set(urls)


def test_what_was_crawled_by_hand_is_watched_under_its_own_slug(workspace: Workspace) -> None:
    by_hand = ensure_source(
        workspace.catalog,
        SourceRow(slug="kanal-by-hand", url=CHANNEL, spider="telegram", created_at=datetime.now(UTC), robots="obey"),
    )
    with pytest.raises(UserError, match="no watched source") as refused:
        find(workspace.catalog, "kanal-by-hand")
    assert "only crawled by hand" in refused.value.advice
    assert add(workspace).slug == "kanal-by-hand"
    (watched,) = list_watched(workspace.catalog)
    assert watched.source.id == by_hand.id and watched.source.robots is None


def test_later_means_when_its_schedule_says_and_no_schedule_means_when_asked(workspace: Workspace) -> None:
    now = datetime.now(UTC)
    at = due(workspace, str(add(workspace, later=True, every="0 4 * * *").slug))
    assert at and at > now and (at.hour, at.minute) == (4, 0)
    assert due(workspace, str(add(workspace, "https://outlet.example/").slug)) is None


def test_an_edit_sets_what_is_due_anew_only_where_the_schedule_changed(workspace: Workspace) -> None:
    slug = str(add(workspace, every="*/15 * * * *").slug)
    first = due(workspace, slug)
    edit(workspace, [slug], {"priority": "5", "robots": "ignore:published reports", "render": "always"})
    assert due(workspace, slug) == first
    edit(workspace, [slug], {"every": "0 4 * * *", "timezone": "Europe/Minsk"})
    at = due(workspace, slug)
    assert at and at > datetime.now(UTC) and at.hour == 1
    edit(workspace, [slug], {"every": "none", "robots": "none"})
    watched = find(workspace.catalog, slug)
    assert due(workspace, slug) is None and watched.source.robots is None and watched.source.render == "always"
    changes = [detail["changes"] for kind, detail in told(workspace, slug) if kind == "source changed"]
    assert changes[0]["robots"] == ["", "ignore:published reports"] and changes[-1]["every"] == ["0 4 * * *", ""]
    assert edit(workspace, [slug], {"priority": "5"})[0].what is What.UNCHANGED
    assert len(told(workspace, slug)) == 4 and check_events(workspace.catalog) is None


def test_several_are_edited_together_or_not_at_all(workspace: Workspace) -> None:
    slugs = [str(add(workspace, f"https://o{number}.example/").slug) for number in range(3)]
    with pytest.raises(UserError, match="five fields"):
        edit(workspace, slugs, {"every": "* *", "priority": "9"})
    with pytest.raises(UserError, match="no watched source"):
        edit(workspace, [*slugs, "nobody"], {"priority": "9"})
    with pytest.raises(UserError, match="another spider makes another source"):
        edit(workspace, slugs, {"spider": "page"})
    assert {one.watch.priority for one in list_watched(workspace.catalog)} == {0}


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_what_was_missed_in_a_pause_is_made_up_for_as_it_is_told(workspace: Workspace, catch_up: CatchUp) -> None:
    slug = str(add(workspace, every="*/10 * * * *", catch_up=catch_up.value).slug)
    set_state(workspace, [slug], "paused:on holiday")
    assert due(workspace, slug) is None
    watch = find(workspace.catalog, slug).watch
    assert watch.paused_why == "on holiday" and watch.paused_at
    then = datetime.now(UTC) - timedelta(hours=5)
    put_watch(workspace.catalog, replace(watch, paused_at=then))
    now = datetime.now(UTC)
    set_state(workspace, [slug], "watched")
    at = due(workspace, slug)
    ten = timedelta(minutes=10)
    assert at is not None
    first, last = {"none": (now, now + ten), "once": (now - ten, now), "all": (then, then + ten)}[catch_up]
    assert first <= at <= last + timedelta(seconds=20)
    assert [kind for kind, _ in told(workspace, slug)] == ["source added", "source paused", "source resumed"]


def test_a_removed_source_keeps_its_history_and_goes_on(workspace: Workspace) -> None:
    slug = str(add(workspace, every="*/15 * * * *", tags="minsk").slug)
    id_ = find(workspace.catalog, slug).source.id
    set_state(workspace, [slug], "removed")
    assert due(workspace, slug) is None and list_watched(workspace.catalog) == []
    with pytest.raises(UserError, match="was removed"):
        find(workspace.catalog, slug)
    done = add(workspace, priority="3")
    again = find(workspace.catalog, slug)
    assert done.what is What.CHANGED and again.source.id == id_ and due(workspace, slug) is not None
    assert (again.watch.tags, again.watch.schedule, again.watch.priority) == (("minsk",), "*/15 * * * *", 3)
    assert [kind for kind, _ in told(workspace, slug)] == ["source added", "source removed", "source added"]


def test_a_source_is_named_by_slug_address_or_a_beginning_that_no_other_has(workspace: Workspace) -> None:
    one, other = (str(add(workspace, f"https://outlet.example/{name}").slug) for name in ("about", "aims"))
    assert find(workspace.catalog, one).source.slug == one
    assert find(workspace.catalog, "https://outlet.example/aims").source.slug == other
    assert find(workspace.catalog, "outlet-example-ab").source.slug == one
    with pytest.raises(UserError, match="any of 2") as ambiguous:
        find(workspace.catalog, "outlet")
    assert one in ambiguous.value.advice and other in ambiguous.value.advice
    with pytest.raises(UserError, match="no watched source") as unknown:
        find(workspace.catalog, "aims")
    assert other in unknown.value.advice
    with pytest.raises(UserError):
        find(workspace.catalog, "")


@pytest.mark.parametrize(
    ("url", "given", "why"),
    [
        ("https://x.example/", {"proxy": "socks5://user:secret@10.0.0.1:1080"}, "OSINT_EXITS"),
        ("https://x.example/", {"proxy": "user:secret@host"}, "OSINT_EXITS"),
        ("https://x.example/", {"proxy": "Exit One"}, "no name of an exit"),
        ("https://user:secret@x.example/", {}, "would be archived"),
        ("ftp://x.example/", {}, "not an http"),
        ("x.example", {}, "not an http"),
        ("https://x.example/a b", {}, "write a blank as %20"),
        ("https://t.me/+AbCdEf", {}, "only what is public"),
        ("https://t.me/joinchat/AbCdEf", {}, "only what is public"),
        ("https://x.example/", {"every": "61 * * * *"}, "61"),
        ("https://x.example/", {"every": "0 0 30 2 *"}, "date"),
        ("https://x.example/", {"every": "* * * * *", "timezone": "Europe/Nowhere"}, "no time zone"),
        ("https://x.example/", {"spider": "vk"}, "none of telegram"),
        ("https://x.example/", {"render": "sometimes"}, "none of never"),
        ("https://x.example/", {"robots": "ignore:"}, "ignore:<reason>"),
        ("https://x.example/", {"robots": "ignore"}, "ignore:<reason>"),
        ("https://x.example/", {"limit-bytes": "many"}, "500MB"),
        ("https://x.example/", {"limit-bytes": "0"}, "not from 1"),
        ("https://x.example/", {"limit-pages": "1e9"}, "no whole number"),
        ("https://x.example/", {"priority": "99999"}, "not from -1000"),
        ("https://x.example/", {"languages": "belarusian!"}, "code of a language"),
        ("https://x.example/", {"catch-up": "some"}, "none of none, once, all"),
        ("https://x.example/", {"name": "a\x00b"}, "cannot be seen"),
        ("https://x.example/", {"name": "a\u202eb"}, "cannot be seen"),
        ("https://x.example/", {"name": "x" * 201}, "longer than"),
        ("https://x.example/", {"state": "gone"}, "none of watched"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    workspace: Workspace, url: str, given: dict[str, str], why: str
) -> None:
    (done,) = put(workspace, [Wanted(url=url, given=given)])
    assert done.what is What.REFUSED and why in str(done.why)
    with workspace.catalog.begin() as connection:
        for table in ("sources", "watches", "due", "events"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_list_is_readable_on_any_screen(workspace: Workspace, width: int) -> None:
    from rich.console import Console

    from osint_pipeline.cli.source_views import list_table

    every = ("*/15 * * * *", "30 9 * * 1-5", "")
    urls = [f"https://outlet{n}.example/a-section-with-a-long-name/{n}" for n in range(100)]
    urls += [f"https://t.me/s/kanal_{n}" for n in range(100)]
    given = [{"every": every[n % 3], "tags": "minsk,courts,detentions,searches"} for n in range(200)]
    list(put(workspace, [Wanted(url=url, given=one) for url, one in zip(urls, given, strict=True)]))
    rows = list_watched(workspace.catalog)
    out = StringIO()
    Console(file=out, width=width, force_terminal=False).print(list_table(rows, standings(workspace.catalog), width))
    head, *lines = out.getvalue().splitlines()
    assert len(lines) == 200 and all(len(line) <= width for line in (head, *lines))
    assert head.split()[:5] == ["source", "every", "next", "captured", "outcome"] and ("address" in head) == (
        width > 150
    )
    for row, line in zip(rows, lines, strict=True):
        assert line.startswith(row.source.slug[:20]) and (row.watch.schedule or "when asked") in line
        assert "not visited" in line and ("due now" in line or "due" in line or row.watch.schedule is None)


def test_every_option_of_the_commands_is_one_of_the_files_too() -> None:
    from osint_pipeline.cli.sources import _OPTIONS
    from osint_pipeline.options import COLUMNS

    assert [*_OPTIONS, "state"] == list(COLUMNS)


def test_two_who_add_the_same_at_once_make_one(workspace: Workspace) -> None:
    def work(number: int) -> list[str]:
        mine = [f"https://o{(number + step) % 8}.example/" for step in range(8)]
        return [one.what.value for one in put(workspace, [Wanted(url=url) for url in mine])]

    assert is_empty(workspace.catalog)  # opens it, once
    with ThreadPoolExecutor(4) as pool:
        whats = [what for found in pool.map(work, range(4)) for what in found]
    assert sorted(whats) == ["added"] * 8 + ["unchanged"] * 24
    assert len(list_events(workspace.catalog)) == 8 and check_events(workspace.catalog) is None


def test_five_hundred_go_in_within_seconds_and_again_change_nothing(workspace: Workspace) -> None:
    wanted = [
        Wanted(url=f"https://outlet{number}.example/", given={"every": "*/15 * * * *", "jitter": "600"}, line=number)
        for number in range(500)
    ]
    began = datetime.now(UTC)
    assert {one.what for one in put(workspace, wanted)} == {What.ADDED}
    seconds = (datetime.now(UTC) - began).total_seconds()
    assert seconds < 40, f"{seconds} s"  # 1.3 s where others work on both cores too
    before = list_watched(workspace.catalog)
    assert {one.what for one in put(workspace, wanted)} == {What.UNCHANGED}
    assert list_watched(workspace.catalog) == before and len(list_events(workspace.catalog, limit=2000)) == 500
    assert len(standings(workspace.catalog)) == 500


def test_now_means_a_visit_for_each_and_none_for_what_is_paused(workspace: Workspace) -> None:
    slug = str(add(workspace, "https://Outlet.example:8443/", every="0 4 * * *", priority="200").slug)
    before = due(workspace, slug)
    ((watched, visit),) = run_now(workspace, [slug, slug])
    with workspace.catalog.begin() as connection:
        row = connection.execute(text("SELECT * FROM visits")).one()
    assert (row.id, row.source_id, row.host) == (visit, watched.source.id, "outlet.example")
    assert (row.why, row.state, row.attempt, row.priority) == ("now", "due", 0, 200)
    assert due(workspace, slug) == before
    set_state(workspace, [slug], "paused")
    with pytest.raises(UserError, match="is paused"):
        run_now(workspace, [slug])


def a_watch(**given: Any) -> WatchRow:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    return WatchRow(**{"source_id": new_id(), "added_at": now, "changed_at": now, "schedule": "0 * * * *", **given})


def test_when_a_source_is_due() -> None:
    now = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
    at = {"now": now, "since": now - timedelta(days=800)}
    assert due_at(a_watch(), now) == datetime(2026, 11, 25, 11, tzinfo=UTC)
    assert due_at(a_watch(), now, at_once=True) == now
    assert due_at(a_watch(schedule=None), now, at_once=True) is None
    assert due_at(a_watch(paused_at=now), now, at_once=True) is None
    assert due_at(a_watch(removed_at=now), now) is None
    assert due_at(a_watch(), **at) == datetime(2026, 11, 25, 10, tzinfo=UTC)
    assert due_at(a_watch(catch_up=CatchUp.NONE), **at) == datetime(2026, 11, 25, 11, tzinfo=UTC)
    assert due_at(a_watch(catch_up=CatchUp.ALL), **at) == datetime(2024, 9, 16, 11, tzinfo=UTC)
    rare = a_watch(schedule="0 0 1 1 *")
    assert due_at(rare, **at) == datetime(2026, 1, 1, tzinfo=UTC)
    assert due_at(rare, now, since=now - timedelta(days=1)) == datetime(2027, 1, 1, tzinfo=UTC)
    spread = a_watch(jitter_seconds=600)
    late = due_at(spread, **at)
    assert late and timedelta(0) <= late - datetime(2026, 11, 25, 10, tzinfo=UTC) <= timedelta(seconds=600)


def test_a_snapshot_puts_back_watches_and_all_versions_of_lists(workspace: Workspace, empty_database_url: str) -> None:
    slug = str(add(workspace, every="*/15 * * * *", tags="minsk", limit_seconds="90").slug)
    removed = str(add(workspace, "https://outlet.example/", proxy="exit-1").slug)
    set_state(workspace, [removed], "removed")
    now = datetime.now(UTC)
    for words in (["затрым*"], ["затрым*", "арышт*"], []):
        put_words(workspace.catalog, "detained", "be", words, who="c-7", at=now)
    path = note_state(workspace)
    assert path is not None and note_state(workspace) is None
    state = _read(path)
    service = replace(workspace.service, database_url=plain(empty_database_url))
    with Workspace(service) as other:
        restore(other.catalog, state)
        for removed_too in (False, True):
            assert list_watched(other.catalog, removed=removed_too) == list_watched(
                workspace.catalog, removed=removed_too
            )
        assert list_words(other.catalog, history=True) == list_words(workspace.catalog, history=True)
        assert len(list_words(other.catalog, history=True)) == 3 and list_words(other.catalog) == []
        assert due(other, slug) is not None and due(other, removed) is None
        assert note_state(other) is None, "what was put back is what was noted"
    edit(workspace, [slug], {"tags": "none"})
    assert note_state(workspace) is not None


def _read(path: Path) -> State:
    from osint_pipeline.state import _read as read

    return read(PREFIX + path.name, path.read_bytes())[0]


def test_a_snapshot_of_before_watches_is_read(workspace: Workspace) -> None:
    from osint_pipeline.keys import Signer
    from osint_pipeline.state import _name

    add(workspace)
    path = note_state(workspace)
    assert path is not None
    body = json.loads(path.read_text("ascii"))
    for name in ("signature", "watches", "watch_lists"):
        del body[name]
    body["format"] = "osint-pipeline/state/1"
    signer = Signer.open(workspace.folder / "keys", None)
    old = canonical({**body, "signature": signer.sign(canonical(body))})
    name = _name(datetime.fromisoformat(body["taken_at"]), old)
    path.unlink()
    path.with_name(name).write_bytes(old)
    state = _read(path.with_name(name))
    assert len(state.sources) == 1 and state.watches == () and state.watch_lists == ()
    assert note_state(workspace) is not None, "the watches stand in none"


def test_a_catalogue_that_watches_something_is_not_empty(workspace: Workspace) -> None:
    assert is_empty(workspace.catalog)
    add(workspace)
    assert not is_empty(workspace.catalog)


def test_set_due_writes_what_due_at_says(workspace: Workspace) -> None:
    slug = str(add(workspace, every="0 * * * *").slug)
    watch, now = find(workspace.catalog, slug).watch, datetime.now(UTC)
    assert set_due(workspace.catalog, watch, now) == due(workspace, slug) == due_at(watch, now)
    assert set_due(workspace.catalog, replace(watch, paused_at=now), now) is None
    assert due(workspace, slug) is None


@pytest.fixture(scope="module")
def osint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """An archive of its own with its servers up."""
    osint = Inside(tmp_path_factory.mktemp("sources") / "home")
    osint.run("up", "--servers")
    try:
        yield osint
    finally:
        osint.run("down")


def test_the_walls_of_a_host_are_cleared_by_a_command(osint: Inside) -> None:
    now = datetime.now(UTC)
    met = Wall(host="walled.example", exit="direct", fetcher="browser", verdict="challenge", reason=None, since=now, last_at=now, count=1)  # fmt: skip
    with Workspace(load(osint.environ).service) as opened:
        note_walls(opened.catalog, [met], fresh_after=now)
    assert "walled.example: 1 cleared" in osint.run("source", "clear-walls", "https://walled.example/x").stdout
    assert osint.rows("source", "clear-walls", "WALLED.example") == [{"host": "walled.example", "cleared": 0}]


def test_the_commands_leave_a_snapshot_in_the_store_that_a_rebuild_reads(osint: Inside) -> None:
    osint.run("source", "add", "@kanal", "https://outlet.example/", "--every", "*/15 * * * *", "--tags", "minsk")
    done = osint.run("source", "add", "https://t.me/s/kanal", "ftp://x.example/", "--priority", "5", code=2)
    assert "osint source edit t-me-s-kanal" in done.stderr and "not an http" in done.stderr
    (row,) = osint.rows("source", "edit", "t-me", "--priority", "5")
    assert row["changes"] == {"priority": {"before": "", "after": "5"}}
    osint.run("source", "pause", "outlet", "--why", "moved")
    osint.run("words", "set", "courts", "--language", "be", "--words", "суд,прысуд*")
    listed = {row["spider"]: row for row in osint.rows("source", "list")}
    assert (listed["news"]["state"], listed["news"]["paused_why"], listed["news"]["due_at"]) == (
        "paused",
        "moved",
        None,
    )
    assert listed["telegram"]["priority"] == 5 and listed["telegram"]["due_at"]
    assert [row["source"] for row in osint.rows("source", "list", "--host", "t.me")] == [listed["telegram"]["source"]]
    assert "2 sources, 1 paused" in osint.run("source", "list", "--tag", "minsk").stdout
    assert "moved" in osint.run("source", "show", "outlet").stdout
    assert osint.rows("source", "show", "t-me")[0]["totals"]["runs"] == 0
    compared = {row["table"]: row for row in osint.rows("rebuild", "--check")}
    assert (compared["watches"]["rows"], compared["watch_lists"]["rows"]) == (2, 1)
    with Workspace(load(osint.environ).service) as workspace:
        state = newest_state(workspace)
        assert state and len(state.watches) == 2 and b"secret" not in workspace.store.read_range(state.key, 0, 20)
        with workspace.catalog.begin() as connection:
            connection.execute(text("UPDATE watches SET priority = 6 WHERE priority = 5"))
    differing = {row["table"]: row["differing"] for row in osint.rows("rebuild", "--check", code=1) if row["differing"]}
    assert differing == {"watches": 1}


def test_a_store_that_is_away_holds_no_change_up(workspace: Workspace, tmp_path: Path) -> None:
    away = {"OSINT_S3_ENDPOINT": "http://127.0.0.1:9", "OSINT_S3_ACCESS_KEY": "k", "OSINT_S3_SECRET_KEY": "s"}
    osint = Inside(tmp_path / "home", OSINT_DATABASE_URL=str(workspace.service.database_url), **away)
    done = osint.run("source", "add", CHANNEL)
    assert "waits for the store" in done.stderr and len(list_watched(workspace.catalog)) == 1
    assert len(list((tmp_path / "home" / "state").glob("*.json"))) == 1
