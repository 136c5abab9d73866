"""What is measured is what stands in the catalogue; totals only grow; no question reads the whole archive."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from osint_pipeline import measures
from osint_pipeline.machine import Description, describe
from osint_pipeline.measures import measure
from osint_pipeline.recovery import recover
from osint_pipeline.rules import _LAYOUT, _REFUSED
from osint_pipeline.uploads import last_upload, note_upload
from osint_pipeline.workspace import Workspace
from storage import totals
from storage.errors import StoreUnavailable
from storage.events import add_event
from storage.ids import new_id
from storage.migrating import known
from tests.world import NOW, World, ago, emptied, open_workspace


@pytest.fixture
def workspace(tmp_path: Path, module_url: str) -> Iterator[Workspace]:
    with open_workspace(tmp_path, emptied(module_url)) as opened:
        yield opened


@pytest.fixture
def world(workspace: Workspace) -> World:
    return World(workspace.catalog)


def test_an_empty_catalogue_is_measured_too(workspace: Workspace) -> None:
    found = measure(workspace.catalog, NOW)
    assert (found.sources, found.machines, found.ended, found.waiting, found.alarms) == ((), (), (), (), ())
    assert found.queue.lag_p50_seconds is None and found.queue.oldest_due_at is None
    assert found.schema == known()[-1] and found.database_bytes > 1_000_000


def test_a_source_owes_what_was_due_after_its_last_success_began(workspace: Workspace, world: World) -> None:
    fresh, failing, never, late = (world.source(name) for name in ("fresh", "failing", "never", "late"))
    world.run(fresh, ago(minutes=5))
    world.visit(fresh, ago(minutes=6))
    world.run(failing, ago(hours=3))
    for hours in (3.1, 2, 1):
        world.visit(failing, ago(hours=hours))
    world.run(failing, ago(hours=1), "failed", captured=0, failed=3)
    world.visit(never, ago(hours=5), "missed")
    world.visit(never, ago(hours=6), "cancelled")
    world.visit(never, ago(hours=7), why="backfill")
    world.run(late, ago(hours=2))
    world.sql("INSERT INTO due VALUES (:id, :at)", id=late, at=ago(minutes=20))
    found = {one.slug: one for one in measure(workspace.catalog, NOW).sources}
    assert found["fresh"].owed_since is None and found["fresh"].success_at == ago(minutes=5)
    assert found["failing"].owed_since == ago(hours=2) and found["failing"].success_at == ago(hours=3)
    assert (found["failing"].outcome, found["failing"].captured) == ("failed", 0)
    assert found["never"].owed_since == ago(hours=5) and found["never"].success_at is None
    assert found["late"].owed_since == ago(minutes=20), "nobody makes visits of what is due"


def test_the_queue_and_the_last_hour(workspace: Workspace, world: World) -> None:
    source = world.source("kanal")
    for seconds in range(1, 101):
        due = ago(minutes=30, seconds=2 * seconds)
        world.visit(source, due, started_at=due + timedelta(seconds=seconds))
    world.visit(source, ago(minutes=9), "due")
    world.visit(source, ago(hours=2), "due", not_before=NOW + timedelta(hours=1))  # is tried again later
    world.visit(source, ago(minutes=1), "running")
    world.run(source, ago(minutes=2), "partial", captured=2)
    world.run(source, ago(hours=2))
    found = measure(workspace.catalog, NOW)
    assert found.queue.open == {"due": 2, "running": 1}
    assert found.queue.oldest_due_at == ago(minutes=9)
    assert (found.queue.lag_p50_seconds, found.queue.lag_p95_seconds) == (50, 95)
    ((one),) = found.ended
    assert (one.outcome, one.runs, one.captured, one.bytes) == ("partial", 1, 2, 1000)


def test_totals_only_grow_and_are_the_same_before_and_after_they_are_counted(
    workspace: Workspace, world: World
) -> None:
    source = world.source("kanal")
    run = world.run(source, ago(hours=2), "partial", captured=1, refused=3, failed=1, wanted=5)
    world.captures(run, source, 1, "refused", verdict="challenge", status=200)
    world.captures(run, source, 1, "refused", reason="robots.txt")
    world.captures(run, source, 1, "refused", reason="status 403", status=403)
    world.captures(run, source, 1, "captured", verdict="content")
    world.visit(source, ago(hours=2), attempt=3, outcome="partial")
    world.visit(source, ago(hours=1), "missed")
    add_event(workspace.catalog, "held back", "a.warc.gz", None, {"why": "x"})
    add_event(workspace.catalog, "verified", "all", None, {"passed": 4, "failed": 2, "unverifiable": 0})
    add_event(workspace.catalog, "recovered", "m1", None, {"mended": 3})
    wanted = {
        ("runs", "partial"): 1, ("captures", "captured"): 1, ("captures", "refused"): 3, ("captures", "failed"): 1,
        ("refused", "challenge"): 1, ("refused", "robots"): 1, ("refused", "status"): 1, ("visits", "partial"): 1,
        ("visits", "missed"): 1, ("retries", ""): 2, ("visits_begun", ""): 1, ("visit_lag_seconds", ""): 10,
        ("events", "held back"): 1, ("verify_failures", ""): 2, ("recovered", ""): 3, ("bytes", ""): 1000,
    }  # fmt: skip

    def counted() -> dict[tuple[str, str], int]:
        with measures.snapshot(workspace.catalog) as connection:
            return totals.read_totals(connection)

    first = counted()
    assert {key: first[key] for key in wanted} == wanted
    with workspace.catalog.begin() as connection:
        assert totals.count_up(connection, NOW) and not totals.count_up(connection, NOW)
    assert counted() == first
    world.run(source, ago(minutes=5))
    world.visit(source, ago(minutes=6))
    add_event(workspace.catalog, "held back", "b.warc.gz", None, {"why": "x"})
    second = counted()
    assert second[("runs", "complete")] == 1 and second[("events", "held back")] == 2
    for later in (timedelta(0), timedelta(hours=1), timedelta(days=9)):
        with workspace.catalog.begin() as connection:
            totals.count_up(connection, NOW + later)
        assert counted() == second


def test_two_that_count_at_once_count_once(workspace: Workspace, world: World) -> None:
    world.run(world.source("kanal"), ago(hours=2))
    with workspace.catalog.begin() as one, workspace.catalog.begin() as other:
        assert totals.count_up(one, NOW)
        assert not totals.count_up(other, NOW)
    assert measure(workspace.catalog, NOW).totals[("runs", "complete")] == 1


def plan_of(world: World, statement: str, **values: object) -> list[dict[str, object]]:
    with world.catalog.begin() as connection:
        connection.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
        (found,) = connection.execute(text(f"EXPLAIN (FORMAT json) {statement}"), values).one()
    nodes, wait = [], [(found if isinstance(found, list) else json.loads(found))[0]["Plan"]]
    while wait:
        node = wait.pop()
        nodes.append(node)
        wait += node.get("Plans", [])
    return nodes


def test_no_question_reads_the_whole_archive(workspace: Workspace, world: World) -> None:
    """A million captures of 10,000 runs of 100 sources, as the planner sees them: only indexes are walked."""
    source = world.source("kanal")
    sizes = {"captures": 1_000_000, "runs": 200_000, "visits": 200_000, "events": 300_000, "warc_files": 100_000}
    world.sql(
        "INSERT INTO runs (id, source_id, started_at, ended_at, outcome, captured, refused) SELECT gen_random_uuid(), :source, "
        ":now - n * interval '5 min', :now - n * interval '5 min', 'complete', 3, 1 FROM generate_series(1, 4000) n",
        source=source, now=NOW,
    )  # fmt: skip
    world.sql(
        "INSERT INTO captures (id, run_id, source_id, url, kind, state, captured_at) SELECT gen_random_uuid(), runs.id, "
        "source_id, 'https://x.example/', 'page', 'captured', ended_at FROM runs, generate_series(1, 5)"
    )
    world.sql(
        "INSERT INTO visits (id, source_id, host, due_at, why, priority, state, attempt, not_before, started_at, ended_at, "
        "detail) SELECT gen_random_uuid(), source_id, 'x', ended_at, 'schedule', 0, 'done', 1, ended_at, ended_at, ended_at, "
        "'{}' FROM runs"
    )
    world.sql(
        "INSERT INTO events SELECT n, :now, 'preserved', n::text, NULL, '{}', '', '' FROM generate_series(1, 4000) n",
        now=NOW,
    )
    world.sql(
        "INSERT INTO warc_files (name, run_id, state) SELECT n::text, gen_random_uuid(), 'preserved' "
        "FROM generate_series(1, 4000) n"
    )
    world.sql("ANALYZE")
    for table, rows in sizes.items():  # pages grow with the rows, or the planner scales the count down again
        world.sql("UPDATE pg_class SET reltuples = :rows WHERE relname = :name", rows=rows, name=table)
    now = {"now": NOW, "since": ago(hours=1)}
    end = {"event_after": 3990, "event_until": 1 << 62}
    asked = {
        measures._SOURCES: {"now": NOW},
        measures._OPEN: {"now": NOW},
        measures._LAG: now,
        measures._RUNS: now,
        measures._WAITING: {},
        measures._HELD_BACK: {},
        measures._PRESERVED: {"most": 1000},
        totals._SUMS: {"after": ago(hours=1), "until": NOW, **end},
        f"{totals._SUMS} ": {"after": ago(days=9), "until": NOW, **end},
        _LAYOUT: {"runs": [new_id() for _ in range(5000)]},
        _REFUSED: {"runs": [new_id() for _ in range(5000)]},
    }
    for statement, values in asked.items():
        for node in plan_of(world, statement, **values):
            if node["Node Type"] == "Seq Scan":
                assert node["Relation Name"] not in sizes, f"{statement}\n{node}"


def test_a_machine_says_how_it_stands_without_asking_the_store(workspace: Workspace, world: World) -> None:
    here = workspace.spool.sealed_folder
    world.warc("a.warc.gz", "sealed", ago(hours=2), 700, str(here / "a.warc.gz"))
    world.warc("b.warc.gz", "preserved", ago(hours=3), 900, str(here / "b.warc.gz"))
    world.warc("c.warc.gz", "sealed", ago(hours=9), 500, "/elsewhere/sealed/c.warc.gz")
    add_event(workspace.catalog, "held back", "a.warc.gz", None, {"why": "x"})
    add_event(workspace.catalog, "held back", "c.warc.gz", None, {"why": "x"})
    (workspace.spool.open_folder / "t.warc.gz.torn").write_bytes(b"x")
    note_upload(workspace.folder, StoreUnavailable("http://geheim.example", "away"))
    detail = describe(workspace, concurrency=4, running=["t.me"], clock={"offset_seconds": 0.25, "source": "ntp"})
    said = Description.of(json.loads(json.dumps(detail)))
    assert (said.spool_waiting_warcs, said.spool_waiting_bytes, said.spool_oldest_at) == (1, 700, ago(hours=2))
    assert (said.held_back, said.torn_files, said.concurrency, said.running) == (1, 1, 4, ("t.me",))
    assert said.clock.offset_seconds == 0.25 and said.disk_bytes and said.disk_free_bytes and said.schema == known()[-1]
    assert said.last_upload_error and "geheim" not in json.dumps(detail) and said.upload_failing_since
    since = last_upload(workspace.folder).failing_since
    note_upload(workspace.folder, StoreUnavailable("http://geheim.example", "away"))
    assert last_upload(workspace.folder).failing_since == since
    note_upload(workspace.folder, None)
    assert last_upload(workspace.folder).failing_since is None and last_upload(workspace.folder).succeeded_at


def test_what_another_version_says_of_itself_is_read_as_far_as_it_goes() -> None:
    said = Description.of({"version": "9", "disk_bytes": 5, "new": {"x": 1}, "spool_oldest_at": "2026-99-99T00:00"})
    assert (said.version, said.disk_bytes, said.spool_oldest_at, said.running) == ("9", 5, None, ())


def test_a_recovery_that_mended_something_is_told_of_and_counted(workspace: Workspace) -> None:
    (workspace.spool.open_folder / "kanal-1-00000.warc.gz.open").write_bytes(b"cut off")
    assert len(list(recover(workspace))) == 1 and list(recover(workspace)) == []
    assert measure(workspace.catalog, NOW).totals[("recovered", "")] == 1
