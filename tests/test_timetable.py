"""What is due becomes one visit each, whoever looks and how often; what was missed is accounted for."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from osint_pipeline.timetable import tick
from storage.catalog import Catalog
from storage.ids import new_id
from storage.rows import SourceRow
from storage.sources import ensure_source
from storage.visits import (
    VisitRow,
    VisitState,
    Why,
    add_visits,
    ask_now,
    began,
    cancel_waiting,
    claim,
    database_now,
    finish,
    forget_visits,
    last_visits,
    put_back,
    put_off,
    seconds_to_next,
    take_over,
)
from storage.watched import CatchUp, WatchRow, one_watched, put_dues, put_watch

NOW = datetime(2026, 11, 25, 12, 0, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def catalog(embedded_url: str):
    with Catalog.open(embedded_url) as opened:
        yield opened


def watched(catalog: Catalog, name: str, since: datetime, **more) -> UUID:
    url = f"http://{name}.example/s/kanal"
    row = ensure_source(catalog, SourceRow(slug=name, url=url, spider="telegram", created_at=NOW))
    put_watch(
        catalog, WatchRow(**{"source_id": row.id, "added_at": NOW, "changed_at": NOW, "schedule": "* * * * *", **more})
    )
    with catalog.begin() as connection:
        put_dues(connection, {row.id: since})
    return row.id


def states(catalog: Catalog, source: UUID) -> list[tuple[str, str]]:
    return [(one.state.value, f"{one.due_at:%H:%M}") for one in reversed(last_visits(catalog, source, 100))]


def look(catalog: Catalog, now: datetime = NOW) -> list[tuple[str, int]]:
    return tick(catalog, now, catch_up_visits=5)


def test_a_due_time_becomes_one_visit_however_many_look(catalog: Catalog) -> None:
    sources = [watched(catalog, f"s{number}", NOW.replace(second=0)) for number in range(50)]
    threads = [threading.Thread(target=look, args=(catalog,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(states(catalog, source) == [("due", "12:00")] for source in sources)
    look(catalog)
    assert all(len(states(catalog, source)) == 1 for source in sources)
    hosts = look(catalog, NOW + MINUTE)
    assert len(hosts) == 50 and {priority for _, priority in hosts} == {0}


def test_it_is_known_how_long_nothing_falls_due(catalog: Catalog) -> None:
    assert seconds_to_next(catalog) is None
    now = database_now(catalog)
    watched(catalog, "overdue", now - MINUTE)
    assert seconds_to_next(catalog) is None  # a look is under way for it
    watched(catalog, "later", now + 60 * MINUTE)
    watched(catalog, "soon", now + MINUTE)
    assert 0 < (seconds_to_next(catalog) or 0) <= 60


def test_the_visits_of_a_host_that_somebody_has_wait_and_none_is_lost(catalog: Catalog) -> None:
    watched(catalog, "kept", database_now(catalog) - MINUTE)
    (host, _), *_ = tick(catalog, catch_up_visits=5)
    put_off(catalog, host, 30)
    assert claim(catalog, host, "m1:1:1") is None and tick(catalog, catch_up_visits=5) == []
    put_off(catalog, host, 0)  # never sooner
    assert claim(catalog, host, "m1:1:1") is None
    assert tick(catalog, database_now(catalog) + timedelta(seconds=31), catch_up_visits=5) == [(host, 0)]


def test_while_a_visit_waits_the_next_is_merged_into_it_and_said_to_be(catalog: Catalog) -> None:
    source = watched(catalog, "slow", NOW.replace(second=0))
    for minutes in range(3):
        look(catalog, NOW + minutes * MINUTE)
    assert states(catalog, source) == [("due", "12:00"), ("missed", "12:01"), ("missed", "12:02")]
    assert "still waited" in (last_visits(catalog, source)[0].reason or "")


def test_a_running_visit_does_not_keep_the_next_from_waiting(catalog: Catalog) -> None:
    source = watched(catalog, "slow", NOW.replace(second=0))
    look(catalog)
    assert claim(catalog, "slow.example", "m:1:1", NOW)
    look(catalog, NOW + MINUTE)
    assert states(catalog, source) == [("running", "12:00"), ("due", "12:01")]


@pytest.mark.parametrize(
    ("policy", "missed", "made"),
    [
        (CatchUp.NONE, 60, []),
        (CatchUp.ONCE, 60, ["12:00"]),
        (CatchUp.ALL, 56, ["11:56", "11:57", "11:58", "11:59", "12:00"]),
    ],
)
def test_after_an_outage_the_sources_policy_holds_and_each_due_time_is_counted(
    catalog: Catalog, policy: CatchUp, missed: int, made: list[str]
) -> None:
    """An hour in which nobody worked, of a source that is due each minute, noticed two minutes after its last time."""
    schedule = "0-59 11 * * *" if policy is CatchUp.NONE else "* * * * *"
    source = watched(catalog, "quiet", NOW.replace(hour=11, second=0), schedule=schedule, catch_up=policy)
    look(catalog, NOW if policy is not CatchUp.NONE else NOW + 2 * MINUTE)
    found = list(reversed(last_visits(catalog, source, 100)))
    assert found[0].detail["count"] == missed
    assert [f"{one.due_at:%H:%M}" for one in found if one.state is VisitState.DUE] == made


def test_a_daily_visit_that_is_noticed_hours_late_is_missed_where_nothing_is_made_up_for(catalog: Catalog) -> None:
    source = watched(catalog, "daily", NOW - timedelta(hours=3), schedule="0 9 * * *", catch_up=CatchUp.NONE)
    assert look(catalog) == []
    assert states(catalog, source) == [("missed", "09:00")]


def test_a_week_of_schedules_is_accounted_for_to_the_minute(catalog: Catalog) -> None:
    """Seven days, looked at each five minutes: every due time is a visit or counted among the missed ones."""
    start = datetime(2026, 11, 16, 0, 0, tzinfo=UTC)
    often = watched(catalog, "often", start, schedule="*/15 * * * *")
    spread = watched(catalog, "spread", start, schedule="0 * * * *", jitter_seconds=600)
    weekly = watched(catalog, "weekly", start, schedule="30 8 * * 1", timezone="Europe/Minsk")
    moment, away = start, (start + timedelta(days=2), start + timedelta(days=3))  # nobody works for a day
    while moment < start + timedelta(days=7):
        if not away[0] <= moment < away[1]:
            look(catalog, moment)
            for host in ("often.example", "spread.example", "weekly.example"):
                while visit := claim(catalog, host, "m:1:1", moment):
                    assert finish(catalog, visit, VisitState.DONE, at=moment, outcome="complete")
        moment += timedelta(minutes=5)
    counts = {source: accounted(catalog, source) for source in (often, spread, weekly)}
    assert counts[often] == (7 * 96, 96), counts
    assert counts[spread][0] in (7 * 24, 7 * 24 + 1) and counts[spread][1] in (22, 23, 24), counts
    assert counts[weekly] == (2, 0), counts  # the first was due when it was added, whatever its schedule says


def accounted(catalog: Catalog, source: UUID) -> tuple[int, int]:
    """How many due times there were, and how many of them were missed."""
    found = last_visits(catalog, source, 10_000)
    missed = sum(one.detail["count"] for one in found if one.state is VisitState.MISSED)
    return sum(one.state is VisitState.DONE for one in found) + missed, missed


def test_paused_and_removed_sources_fall_due_no_more(catalog: Catalog) -> None:
    paused = watched(catalog, "paused", NOW, paused_at=NOW)
    removed = watched(catalog, "removed", NOW, removed_at=NOW)
    assert look(catalog) == []
    assert states(catalog, paused) == states(catalog, removed) == []


def test_visits_are_claimed_once_by_priority_then_by_age(catalog: Catalog) -> None:
    first = watched(catalog, "a", NOW)
    look(catalog)
    (asked,) = ask_now(catalog, [(first, "a.example")], priority=10, at=NOW + MINUTE)
    later = NOW + 2 * MINUTE
    one, two = claim(catalog, "a.example", "m:1:1", later), claim(catalog, "a.example", "m:2:2", later)
    assert one and two and (one.id, one.why, two.why) == (asked, Why.NOW, Why.SCHEDULE)
    assert claim(catalog, "a.example", "m:1:1", later) is None
    assert claim(catalog, "other.example", "m:1:1", later) is None


def test_only_the_attempt_that_has_a_visit_may_end_it(catalog: Catalog) -> None:
    source, run = watched(catalog, "a", NOW), new_id()
    look(catalog)
    first = claim(catalog, "a.example", "m:1:1", NOW)
    assert first and began(catalog, first, run)
    (freed,) = take_over(catalog, "a.example", NOW, most=3, why="gone", died=False)
    second = claim(catalog, "a.example", "m:2:2", NOW)
    assert second and second.attempt == 2 and second.earlier_runs == (run,) == freed.earlier_runs
    assert not finish(catalog, first, VisitState.DONE, at=NOW) and not began(catalog, first, new_id())
    assert finish(catalog, second, VisitState.DONE, at=NOW, outcome="complete")
    assert not finish(catalog, second, VisitState.DONE, at=NOW)
    assert states(catalog, source) == [("done", "12:00")]


def test_a_visit_whose_process_dies_is_parked_and_one_whose_machine_dies_is_tried_longer(catalog: Catalog) -> None:
    watched(catalog, "poison", NOW)
    look(catalog)
    for attempt in range(1, 4):
        assert claim(catalog, "poison.example", "m:1:1", NOW)
        (one,) = take_over(catalog, "poison.example", NOW, most=3, why="killed by SIGSEGV", died=True)
        assert one.state is (VisitState.PARKED if attempt == 3 else VisitState.DUE)
    assert "SIGSEGV" in (one.reason or "") and claim(catalog, "poison.example", "m:1:1", NOW) is None
    watched(catalog, "unlucky", NOW)
    look(catalog)
    attempts = 0
    while claim(catalog, "unlucky.example", "m:1:1", NOW):
        attempts += 1
        take_over(catalog, "unlucky.example", NOW, most=3, why="gone", died=False)
    assert attempts == 12


def test_what_is_put_back_waits_until_it_may_be_tried_again(catalog: Catalog) -> None:
    source = watched(catalog, "a", NOW)
    look(catalog)
    visit = claim(catalog, "a.example", "m:1:1", NOW)
    assert visit and put_back(catalog, visit, not_before=NOW + MINUTE, reason="disk full")
    assert claim(catalog, "a.example", "m:1:1", NOW) is None and look(catalog) == []
    assert look(catalog, NOW + MINUTE)[0][0] == "a.example"
    with catalog.begin() as connection:
        assert cancel_waiting(connection, source, NOW, "removed") == 1
    assert claim(catalog, "a.example", "m:1:1", NOW + MINUTE) is None


def test_old_visits_are_forgotten_and_parked_ones_never(catalog: Catalog) -> None:
    source, old = watched(catalog, "a", NOW), NOW - timedelta(days=500)
    rows = [
        VisitRow(source_id=source, host="a.example", due_at=old + number * MINUTE, not_before=old, state=state)
        for number, state in enumerate((VisitState.DONE, VisitState.MISSED, VisitState.PARKED, VisitState.DUE))
    ]
    with catalog.begin() as connection:
        assert len(add_visits(connection, rows)) == 4 and add_visits(connection, rows) == []
    assert forget_visits(catalog, NOW - timedelta(days=400)) == 2 and forget_visits(catalog, NOW) == 0
    assert {state for state, _ in states(catalog, source)} == {"parked", "due"}


def test_a_schedule_that_cannot_be_used_is_paused_and_holds_up_no_other(catalog: Catalog) -> None:
    bad = watched(catalog, "bad", NOW.replace(second=0), timezone="Europe/Nowhere")
    good = watched(catalog, "good", NOW.replace(second=0))
    for minutes in range(2):
        look(catalog, NOW + minutes * MINUTE)
        while visit := claim(catalog, "good.example", "m:1:1", NOW + minutes * MINUTE):
            finish(catalog, visit, VisitState.DONE, at=NOW, outcome="complete")
    assert states(catalog, good) == [("done", "12:00"), ("done", "12:01")] and states(catalog, bad) == []
    found = one_watched(catalog, bad)
    assert found and found.watch.paused_at and "Europe/Nowhere" in (found.watch.paused_why or "")


def test_the_time_is_the_databases_where_none_is_given(catalog: Catalog) -> None:
    source = watched(catalog, "a", database_now(catalog) - timedelta(seconds=1), schedule=None)
    assert tick(catalog, catch_up_visits=5) == [("a.example", 0)]
    assert claim(catalog, "a.example", "m:1:1") and states(catalog, source)[0][0] == "running"


def test_a_visit_that_is_asked_for_now_makes_the_job_that_waits_as_urgent(catalog: Catalog) -> None:
    source = watched(catalog, "a", NOW)
    look(catalog)
    job = "INSERT INTO procrastinate_jobs (queue_name, task_name, lock, status, priority) VALUES ('crawl', 'crawl', 'host:a.example', 'todo', 0)"
    with catalog.begin() as connection:
        connection.execute(text(job))
    ask_now(catalog, [(source, "a.example")], priority=100, at=NOW)
    assert look(catalog) == [], "it has a job"
    with catalog.begin() as connection:
        assert connection.scalar(text("SELECT priority FROM procrastinate_jobs")) == 100


def test_our_own_trouble_parks_no_visit(catalog: Catalog) -> None:
    source = watched(catalog, "a", NOW)
    look(catalog)
    for _ in range(20):
        assert claim(catalog, "a.example", "m:1:1", NOW)
        take_over(catalog, "a.example", NOW, most=None, why="no space left for the spool", died=False)
    assert states(catalog, source) == [("due", "12:00")]


def test_what_was_put_back_often_is_parked_by_no_single_loss(catalog: Catalog) -> None:
    watched(catalog, "a", NOW)
    look(catalog)
    for _ in range(30):
        visit = claim(catalog, "a.example", "m:1:1", NOW)
        assert visit and put_back(catalog, visit, not_before=NOW, reason="its worker was stopped")
    assert claim(catalog, "a.example", "m:1:1", NOW)
    (one,) = take_over(catalog, "a.example", NOW, most=3, why="gone", died=False)
    assert one.state is VisitState.DUE
