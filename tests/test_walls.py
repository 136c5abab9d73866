"""What is noted of walls, when it is forgotten, and which of a host's pages the browser looks at."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from osint_pipeline.cli.source_views import _print_walls
from osint_pipeline.walls import Walls
from spiders.page import Page, Verdict
from spiders.second_look import SecondLook
from storage.batches import commit_batch
from storage.catalog import Catalog
from storage.ids import new_id
from storage.rows import Batch, CaptureKind, CaptureRow, CaptureState, RunRow, SourceRow
from storage.runs import begin_run
from storage.sources import ensure_source
from storage.walls import MOST, Wall, clear_walls, note_walls, walls_since

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SOURCE, RUN = new_id(), new_id()
URL = "https://x.example/a"


@pytest.fixture
def catalog(embedded_url: str) -> Iterator[Catalog]:
    with Catalog.open(embedded_url) as opened:
        yield opened


def walls(catalog: Catalog, now: datetime = NOW, exit: str = "direct", hours: float = 24.0) -> Walls:
    return Walls(catalog, SOURCE, exit=exit, now=now, hours=hours)


def row(
    verdict: str | None,
    url: str = URL,
    kind: str = "rendered",
    at: datetime = NOW,
    status: int = 200,
    reason: str | None = "why",
    run: UUID = RUN,
) -> CaptureRow:
    good = verdict in ("content", "gone")
    state = CaptureState.CAPTURED if good else CaptureState.REFUSED
    return CaptureRow(
        run_id=run, source_id=SOURCE, url=url, kind=CaptureKind(kind), state=state, captured_at=at, verdict=verdict, status=status, reason=reason
    )  # fmt: skip


def standing(catalog: Catalog, since: datetime = NOW - timedelta(days=1)) -> list[tuple[str, str, str, int]]:
    with catalog.begin() as connection:
        return [(one.host, one.fetcher, one.verdict, one.count) for one in walls_since(connection, since)]


def test_a_challenge_that_the_browser_met_holds_for_the_host_and_the_way_out(catalog: Catalog) -> None:
    walls(catalog).committed([row("challenge"), row("challenge", kind="page"), row("challenge", URL + "/2")])
    assert sorted(standing(catalog)) == [
        ("x.example", "browser", "challenge", 2),
        ("x.example", "wire", "challenge", 1),
    ]
    assert walls(catalog).in_vain("https://x.example/other")
    assert not walls(catalog).in_vain("https://y.example/")
    assert not walls(catalog, exit="minsk").in_vain("https://x.example/other")
    assert not walls(catalog, NOW + timedelta(hours=25)).in_vain("https://x.example/other")


def test_a_channel_without_a_preview_is_no_wall_of_its_host(catalog: Catalog) -> None:
    walls(catalog).committed(
        [row("no_preview", kind="page"), row("undecided", kind="page"), row(None, kind="page", status=429)]
    )
    assert standing(catalog) == [("x.example", "wire", "undecided", 1)], "a refusing status is one"


def test_a_wall_of_the_wire_keeps_nobody_from_the_browser(catalog: Catalog) -> None:
    walls(catalog).committed([row("challenge", kind="page"), row("blocked", kind="page")])
    assert not walls(catalog).in_vain(URL)


def test_a_block_holds_for_its_page_alone_unless_its_rule_says_more(catalog: Catalog) -> None:
    ours = walls(catalog)
    ours.committed([row("blocked", status=451, reason="status 451"), row("blocked", reason="VK withholds it in the country that we came from")])  # fmt: skip
    assert not ours.in_vain(URL + "/other") and not walls(catalog).in_vain(URL + "/other")
    banned = "status 403: Cloudflare blocks the address or country that we came from"
    ours.committed([row("blocked", status=403, reason=banned)])
    assert ours.in_vain(URL + "/other") and walls(catalog).in_vain(URL + "/other")
    assert not walls(catalog, exit="minsk").in_vain(URL + "/other")


def test_what_comes_through_lifts_the_hosts_wall_and_a_later_one_begins_anew(catalog: Catalog) -> None:
    ours = walls(catalog)
    ours.committed([row("consent_wall"), row("login_wall")])
    ours.committed([row("content", at=NOW + timedelta(minutes=1))])
    assert standing(catalog) == [("x.example", "browser", "login_wall", 1)], "a login wall stands before its page alone"
    assert not walls(catalog).in_vain("https://x.example/other")
    later = NOW + timedelta(minutes=2)
    walls(catalog).committed([row("challenge", at=later), row("content", at=later + timedelta(seconds=1))])
    assert ("x.example", "browser", "challenge", 1) not in standing(catalog), "in one batch too"
    walls(catalog).committed(
        [row("gone", kind="page"), row("content", kind="file"), row(None, kind="file", status=403)]
    )
    assert standing(catalog) == [("x.example", "browser", "login_wall", 1)]


def test_one_refusal_by_status_does_not_outlast_a_good_capture(catalog: Catalog) -> None:
    ours = walls(catalog)
    ours.committed([row(None, kind="page", status=403), row("blocked", kind="page"), row("stub", kind="page")])
    assert len(standing(catalog)) == 3
    ours.committed([row("content", URL + "/2", kind="page", at=NOW + timedelta(minutes=1))])
    assert standing(catalog) == []


def test_a_wall_that_was_not_met_for_long_is_counted_anew(catalog: Catalog) -> None:
    walls(catalog).committed([row("challenge")])
    later = NOW + timedelta(days=3)
    walls(catalog, later).committed([row("challenge", at=later)])
    with catalog.begin() as connection:
        (one,) = walls_since(connection, NOW)
    assert (one.since, one.last_at, one.count, one.reason) == (later, later, 1, "why")


def begun(catalog: Catalog, exit: str | None = None, identity: str | None = None) -> UUID:
    source = ensure_source(catalog, SourceRow(slug="x", url=URL, spider="page", created_at=NOW))
    detail = {"egress": {"exit": exit}, "proxy": exit is not None, "identity": identity}
    begin_run(catalog, run := RunRow(source_id=source.id, started_at=NOW, detail=detail))
    return run.id


def test_another_refusal_holds_for_its_page_and_source_while_it_is_the_last_word(catalog: Catalog) -> None:
    run = begun(catalog)
    ours = walls(catalog)
    ours.closed(one := row("login_wall", run=run))
    assert ours.in_vain(URL) and not ours.in_vain(URL + "/other"), "at once, before it is committed"
    commit_batch(catalog, Batch(captures=(one,)))
    assert walls(catalog).in_vain(URL)
    assert not walls(catalog, NOW + timedelta(hours=25)).in_vain(URL)
    assert not Walls(catalog, new_id(), exit="direct", now=NOW, hours=24.0).in_vain(URL), "another source may see more"
    commit_batch(catalog, Batch(captures=(row("content", at=NOW + timedelta(minutes=1), run=run),)))
    assert not walls(catalog).in_vain(URL)
    commit_batch(catalog, Batch(captures=(row(None, URL + "/status", status=403, run=run),)))
    assert walls(catalog).in_vain(URL + "/status"), "a status alone is a refusal too"


def test_what_was_refused_one_way_may_be_tried_another(catalog: Catalog) -> None:
    page, me = URL + "/ways", "0a" * 32
    mine = Walls(catalog, SOURCE, exit="direct", now=NOW, hours=24.0, identity=me)
    commit_batch(catalog, Batch(captures=(row("login_wall", page, run=begun(catalog)),)))
    assert walls(catalog).in_vain(page)
    assert not walls(catalog, exit="minsk").in_vain(page) and not walls(catalog, exit="proxy").in_vain(page)
    assert not mine.in_vain(page)
    later = NOW + timedelta(minutes=1)
    commit_batch(catalog, Batch(captures=(row("content", page, at=later, run=begun(catalog, "minsk")),)))
    assert walls(catalog).in_vain(page), "what another exit sees is no word of this one"
    commit_batch(catalog, Batch(captures=(row("login_wall", page, at=later, run=begun(catalog, identity=me)),)))
    assert mine.in_vain(page)
    walls(catalog).committed([row("challenge", "https://ways.example/")])
    assert walls(catalog).in_vain("https://ways.example/2") and not mine.in_vain("https://ways.example/2")


def test_the_operator_clears_a_hosts_walls(catalog: Catalog) -> None:
    page = "https://clear.example/a"
    walls(catalog).committed([row("challenge", page), row("login_wall", page, kind="page")])
    commit_batch(catalog, Batch(captures=(row("challenge", page, run=begun(catalog)),)))
    assert walls(catalog).in_vain(page) and walls(catalog).in_vain(page + "/2")
    assert clear_walls(catalog, "clear.example", NOW + timedelta(minutes=1)) == 2
    assert clear_walls(catalog, "clear.example", NOW + timedelta(minutes=2)) == 0
    assert not walls(catalog).in_vain(page) and not walls(catalog).in_vain(page + "/2")
    assert not [one for one in standing(catalog) if one[0] == "clear.example"], "the mark is no wall"
    commit_batch(catalog, Batch(captures=(row("challenge", page, at=NOW + timedelta(minutes=3), run=begun(catalog)),)))
    assert walls(catalog).in_vain(page)


def test_a_wall_without_a_reason_is_shown_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    one = Wall(host="x.example", exit="direct", fetcher="wire", verdict="login_wall", reason=None, since=now, last_at=now, count=1)  # fmt: skip
    _print_walls([one, replace(one, reason="status 401")])
    bare, told = capsys.readouterr().out.splitlines()
    assert bare.startswith("x.example refuses the wire (login wall), 1x since")
    assert told.startswith("x.example refuses the wire (login wall: status 401), 1x")


def test_the_list_is_bounded(catalog: Catalog) -> None:
    met = [Wall(host=f"h{one}.example", exit="", fetcher="wire", verdict="blocked", reason=None, since=NOW, last_at=NOW, count=1) for one in range(MOST + 2)]  # fmt: skip
    note_walls(catalog, met, fresh_after=NOW)
    assert len(standing(catalog)) == MOST


class Shut:
    def __init__(self, *urls: str) -> None:
        self.urls = urls

    def in_vain(self, url: str) -> bool:
        return url in self.urls


def look(verdict: str, rule: str | None = None) -> Page:
    return Page(url=URL, verdict=Verdict(verdict), rule=rule)


def test_of_a_hosts_walls_one_page_is_looked_at_first() -> None:
    second, wall = SecondLook(), look("challenge", "cloudflare")
    assert second.wanted(URL + "1", wall)
    second.note(URL + "1")
    assert (
        not second.wanted(URL + "1", wall) and not second.wanted(URL + "2", wall) and not second.wanted(URL + "3", wall)
    )
    assert second.wanted("https://y.example/", wall), "another host"
    assert second.wanted(URL + "4", look("shell")), "a shell is no wall"
    assert second.came(URL + "1", well=True) == [URL + "2", URL + "3"]
    assert second.wanted(URL + "5", wall), "it is open"


def test_a_wall_that_does_not_open_leaves_the_others_alone() -> None:
    second, wall = SecondLook(), look("consent_wall", "consent-words")
    second.note(URL + "1")
    assert second.wanted(URL + "2", wall)
    second.note(URL + "2")
    assert not second.wanted(URL + "3", wall)
    assert second.came(URL + "2", well=False) == [] and not second.wanted(URL + "4", wall)
    assert second.came(URL + "2", well=True) == []


def test_only_the_page_that_tells_decides_for_its_host() -> None:
    second, wall = SecondLook(), look("challenge", "cloudflare")
    assert second.wanted(URL + "1", wall) and not second.wanted(URL + "2", wall)
    assert second.wanted(URL + "shell", look("shell"))
    second.note(URL + "shell")
    assert second.came(URL + "shell", well=True) == [] and second.failed(URL + "shell") == []
    assert not second.wanted(URL + "3", wall), "the wall has not opened yet"
    assert second.came(URL + "1", well=False) == [] and not second.wanted(URL + "4", wall)


def test_a_browser_that_fails_lets_the_next_page_tell() -> None:
    second, wall = SecondLook(), look("challenge", "cloudflare")
    assert second.wanted(URL + "1", wall)
    second.note(URL + "1")
    assert not second.wanted(URL + "2", wall)
    assert second.failed(URL + "1") == [URL + "2"]
    second.note(URL + "2")
    assert second.failed(URL + "2") == [] and second.wanted(URL + "3", wall)


def test_what_is_known_to_be_in_vain_is_not_asked_and_a_login_helps_with_login_walls() -> None:
    second = SecondLook()
    second.walls = Shut(URL)
    assert not second.wanted(URL, look("challenge", "cloudflare")) and not second.wanted(URL, look("shell"))
    assert second.helps(look("challenge", "cloudflare")) and not second.helps(look("login_wall", "login-words"))
    second.has_login = True
    assert second.helps(look("login_wall", "login-words")) and not second.helps(look("gone", "gone-words"))
