"""Each trouble is told once when it begins and once when it is over, whoever looks, however often; secrets never."""

import json
import socketserver
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from osint_pipeline.alerts import GROUPED, Change, look
from osint_pipeline.measures import snapshot
from osint_pipeline.rules import RULES, span
from osint_pipeline.workspace import Workspace
from settings.service import Service
from storage.alerting import AlertRow, all_alerts, open_alerts
from storage.events import add_event
from tests.commands import Osint
from tests.hook import Hook, Sink
from tests.world import NOW, World, ago, emptied, open_workspace

ROOT = Path(__file__).parent.parent


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def url(module_url: str) -> str:
    return emptied(module_url)


@pytest.fixture
def workspace(tmp_path: Path, url: str, hook: Hook) -> Iterator[Workspace]:
    with open_workspace(tmp_path, url, OSINT_ALERTS=hook.url, OSINT_ALERT_CALM_SECONDS="0") as opened:
        yield opened


@pytest.fixture
def world(workspace: Workspace) -> World:
    return World(workspace.catalog)


def found(changes: list[Change]) -> list[tuple[str, str, str]]:
    return sorted((one.what.value, one.alert.rule, one.alert.subject) for one in changes)


def alerts_of(workspace: Workspace) -> list[AlertRow]:
    with snapshot(workspace.catalog) as connection:
        return all_alerts(connection)


HEALTHY: dict[str, Any] = {"disk_bytes": 10**12, "disk_free_bytes": 10**11}


def silent(world: World) -> None:
    source = world.source("kanal", schedule="0 */12 * * *")
    world.run(source, ago(hours=37))


def layout(world: World) -> None:
    source = world.source("kanal")
    run = world.run(source, ago(minutes=5), "partial", failed=2, captured=1)
    world.captures(run, source, 2, "failed", reason="layout changed: geheim page text")


def blocked(world: World) -> None:
    for slug in ("one", "two"):
        source = world.source(slug, host="wall.example")
        run = world.run(source, ago(hours=1), "partial", wanted=10, captured=4, refused=6)
        world.captures(run, source, 6, "refused", verdict="challenge")


def spool_old(world: World) -> None:
    world.machine("m1", spool_oldest_at=ago(hours=7), **HEALTHY)


def store(world: World) -> None:
    world.machine("m1", upload_failing_since=ago(minutes=6), last_upload_error="geheim", **HEALTHY)


def held_back(world: World) -> None:
    world.warc("a.warc.gz", "sealed", ago(hours=1))
    add_event(world.catalog, "quarantined", "a.warc.gz", None, {"key": "geheim"})


def unstamped(world: World) -> None:
    world.warc("a.warc.gz", "sealed", ago(hours=25))


def disk(world: World) -> None:
    world.machine("m1", disk_bytes=10**12, disk_free_bytes=4 * 10**9)


def nothing(world: World) -> None:
    world.run(world.source("kanal", changed_at=ago(hours=1)), ago(minutes=5), "failed", captured=0, failed=3)


def parked(world: World) -> None:
    source = world.source("kanal")
    world.run(source, ago(hours=2))
    world.visit(source, ago(hours=2))
    world.visit(source, ago(hours=1), "parked", reason="geheim")


def gone(world: World) -> None:
    world.machine("m1", ago(minutes=3), **HEALTHY)


def clock(world: World) -> None:
    world.machine("m1", clock={"offset_seconds": -1.5, "source": "ntp"}, **HEALTHY)


def late(world: World) -> None:
    world.visit(world.source("kanal", changed_at=ago(hours=1)), ago(minutes=31), "due")


def replayed(world: World) -> None:
    world.replays(world.source("kanal"), 0.5, *[1.0] * 9, at=ago(hours=23))
    world.replays(world.source("other"), 1.0)


TROUBLES = {
    ("source-silent", "kanal"): silent,
    ("layout-changed", "kanal"): layout,
    ("block-rate", "wall.example"): blocked,
    ("spool-old", "m1"): spool_old,
    ("store-failing", "m1"): store,
    ("store-failing", "held back"): held_back,
    ("unstamped", "archive"): unstamped,
    ("disk-low", "m1"): disk,
    ("zero-capture-run", "kanal"): nothing,
    ("visit-parked", "kanal"): parked,
    ("machine-gone", "m1"): gone,
    ("clock-off", "m1"): clock,
    ("queue-late", "queue"): late,
    ("replay-bad", "kanal"): replayed,
}


@pytest.mark.parametrize(("rule", "subject"), TROUBLES, ids=lambda word: word)
def test_each_rule_finds_its_trouble_and_no_other(
    rule: str, subject: str, workspace: Workspace, world: World, hook: Hook
) -> None:
    TROUBLES[rule, subject](world)
    assert found(look(workspace, NOW)) == [("began", rule, subject)]
    assert found(look(workspace, NOW)) == []
    (sent,) = hook.sent
    assert rule in sent["title"] and "geheim" not in json.dumps(sent)
    assert sent["type"] == ("failure" if "critical" in sent["title"] else "warning")


def just_not_silent(world: World) -> None:
    source = world.source("kanal", schedule="0 */12 * * *")
    world.run(source, ago(hours=35))
    world.source("young", added_at=ago(hours=23), changed_at=ago(hours=23))
    world.source("changed", changed_at=ago(hours=2))
    world.source("paused", paused_at=ago(hours=1))
    world.source("by-hand", schedule=None)


def read_again(world: World) -> None:
    source = world.source("kanal")
    run = world.run(source, ago(hours=1), "partial", failed=2, captured=1)
    world.captures(run, source, 2, "failed", reason="layout changed: x")
    world.run(source, ago(minutes=5))


def obeyed(world: World) -> None:
    source = world.source("kanal")
    run = world.run(source, ago(hours=1), "partial", wanted=30, captured=10, refused=20)
    world.captures(run, source, 20, "refused", reason="robots.txt")


def too_few(world: World) -> None:
    source = world.source("kanal")
    run = world.run(source, ago(hours=1), "partial", wanted=19, captured=1, refused=18)
    world.captures(run, source, 18, "refused", verdict="blocked")


def got_better(world: World) -> None:
    source = world.source("kanal")
    run = world.run(source, ago(hours=2), "refused", wanted=30, captured=0, refused=30)
    world.captures(run, source, 30, "refused", verdict="blocked")
    world.run(source, ago(hours=1), wanted=30, captured=30)


def small_disk(world: World) -> None:
    world.machine("m1", disk_bytes=10**10, disk_free_bytes=2 * 10**9, upload_failing_since=ago(minutes=1))


def stopped(world: World) -> None:
    world.machine("m1", ago(hours=3), stopped=True, **HEALTHY)
    world.machine("m2", ago(days=8), clock={"offset_seconds": 9.0}, **HEALTHY)


def tried_again_later(world: World) -> None:
    source = world.source("kanal", changed_at=ago(hours=1))
    world.visit(source, ago(hours=2), "due", not_before=NOW + timedelta(minutes=1))
    world.visit(source, ago(minutes=29), "due")


def unparked(world: World) -> None:
    source = world.source("kanal")
    world.run(source, ago(minutes=30))
    world.visit(source, ago(hours=1), "parked")
    world.visit(source, ago(minutes=30))


def replays_well_enough(world: World) -> None:
    (mended,) = world.replays(world.source("mended"), 0.5, at=ago(hours=2))
    world.replay(mended, 1.0, ago(hours=1))
    world.replays(world.source("clock"), 0.5, 0.5, explains=True)
    world.replays(world.source("few"), 0.5, *[1.0] * 10)
    once = world.source("once")
    world.replays(once, 0.5, at=ago(hours=25))
    world.run(once, ago(hours=1))


@pytest.mark.parametrize(
    "premise",
    [
        just_not_silent,
        read_again,
        obeyed,
        too_few,
        got_better,
        small_disk,
        stopped,
        tried_again_later,
        unparked,
        replays_well_enough,
    ],
)
def test_what_is_no_trouble_is_told_to_nobody(premise: Any, workspace: Workspace, world: World, hook: Hook) -> None:
    premise(world)
    assert found(look(workspace, NOW)) == [] and hook.sent == []


def test_an_end_is_told_once_and_a_new_beginning_again(workspace: Workspace, world: World, hook: Hook) -> None:
    gone(world)
    look(workspace, NOW)
    world.machine("m1", NOW, **HEALTHY)
    assert found(look(workspace, NOW)) == [("ended", "machine-gone", "m1")]
    assert found(look(workspace, NOW)) == []
    world.machine("m1", NOW, **HEALTHY)
    later = NOW + timedelta(minutes=10)
    assert found(look(workspace, later)) == [("began", "machine-gone", "m1")]
    assert [one["title"] for one in hook.sent] == [
        "critical: machine-gone: m1", "over: machine-gone: m1", "critical: machine-gone: m1",
    ]  # fmt: skip
    first, second = sorted(alerts_of(workspace), key=lambda one: one.began_at)
    assert first.ended_at == first.end_told_at == NOW and second.ended_at is None and second.told_at == later


def test_a_schedule_that_cannot_be_used_silences_nobody(workspace: Workspace, world: World) -> None:
    for number, (schedule, timezone) in enumerate(
        (("x", "UTC"), ("* * * * *", "Nowhere/At-all"), ("0 0 30 2 *", "UTC"))
    ):
        world.source(f"odd-{number}", schedule=schedule, timezone=timezone)
    gone(world)
    assert len(look(workspace, NOW)) == 4


def test_a_trouble_that_comes_and_goes_is_one_alert(tmp_path: Path, url: str, hook: Hook) -> None:
    with open_workspace(tmp_path, url, OSINT_ALERTS=hook.url, OSINT_ALERT_CALM_SECONDS="300") as workspace:
        world, moment = World(workspace.catalog), NOW

        def at(seconds: float, offset: float) -> list[tuple[str, str, str]]:
            world.machine("m1", NOW + timedelta(seconds=seconds), clock={"offset_seconds": offset}, **HEALTHY)
            return found(look(workspace, moment + timedelta(seconds=seconds)))

        assert at(0, 2.0) == [("began", "clock-off", "m1")]
        assert [at(seconds, offset) for seconds, offset in ((60, 0), (120, 2), (180, 0), (470, 0))] == [[]] * 4
        assert at(481, 0) == [("ended", "clock-off", "m1")]
    assert len(hook.sent) == 2


def test_what_could_not_be_told_is_told_later(workspace: Workspace, world: World, hook: Hook) -> None:
    hook.code = 500
    gone(world)
    assert len(look(workspace, NOW)) == 1
    assert alerts_of(workspace)[0].told_at is None and hook.sent == []
    hook.code = 200
    assert look(workspace, NOW) == [] and len(hook.sent) == 1
    assert alerts_of(workspace)[0].told_at == NOW
    assert look(workspace, NOW) == [] and len(hook.sent) == 1


def test_a_trouble_that_was_over_before_it_could_be_told_is_told_once(
    workspace: Workspace, world: World, hook: Hook
) -> None:
    hook.code = 500
    gone(world)
    look(workspace, NOW)
    world.machine("m1", NOW, **HEALTHY)
    look(workspace, NOW)
    hook.code = 200
    look(workspace, NOW)
    look(workspace, NOW)
    assert [one["title"] for one in hook.sent] == ["over: machine-gone: m1"]


def test_many_at_once_are_one_message(workspace: Workspace, world: World, hook: Hook) -> None:
    with world.at_once():
        for number in range(40):
            world.source(f"kanal-{number:02}")
    assert len(look(workspace, NOW)) == 40 > GROUPED
    (sent,) = hook.sent
    assert sent["title"] == "40 alerts began, 0 ended" and "and 10 more" in sent["message"]
    assert all(one.told_at for one in alerts_of(workspace))


def test_two_that_look_at_once_tell_once(tmp_path: Path, url: str, hook: Hook) -> None:
    with open_workspace(tmp_path, url, OSINT_ALERTS=hook.url) as workspace:
        gone(World(workspace.catalog))
        start, changes = threading.Barrier(6), []

        def one() -> None:
            start.wait(20)
            changes.extend(look(workspace, NOW))

        threads = [threading.Thread(target=one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(changes) == 1 and len(hook.sent) == 1
        with snapshot(workspace.catalog) as connection:
            assert len(open_alerts(connection)) == 1


def test_mail_and_webhook_are_sent_and_the_command_counts_them(tmp_path: Path, url: str, hook: Hook) -> None:
    mails: list[str] = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), type("Kept", (Sink,), {"mails": mails})) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        mail = f"mailto://127.0.0.1:{server.server_address[1]}?from=osint@a.example&to=one@b.example,two@b.example"
        osint = Osint(tmp_path / "home", OSINT_ALERTS=f"{mail},{hook.url}", OSINT_MACHINE="m1")
        assert "2 of 2 addresses" in osint.run("alerts", "test").stdout
        hook.code = 500
        done = osint.run("alerts", "test", code=3)
        assert "1 of 2 addresses" in done.stdout and "geheim" not in done.stdout + done.stderr
        server.shutdown()
        thread.join()
    assert len(hook.sent) == 1 and "This is a test from m1" in hook.sent[0]["message"]
    assert len(mails) in (2, 4) and "This is a test from m1" in mails[0]  # one for each who gets it, or one for both
    assert "github" not in "".join(mails), "no picture is fetched from anywhere when it is read"


def test_without_an_address_troubles_are_kept_and_listed(tmp_path: Path, url: str) -> None:
    with open_workspace(tmp_path, url) as workspace:
        gone(World(workspace.catalog))
        look(workspace, NOW)
    osint = Osint(tmp_path / "home", OSINT_DATABASE_URL=url.replace("+psycopg", ""))
    (row,) = osint.rows("alerts")
    assert (row["rule"], row["subject"], row["told_at"]) == ("machine-gone", "m1", None)
    assert "machine-gone" in osint.run("alerts", "--history").stdout
    assert "no address" in osint.run("alerts", "test", code=2).stderr


def test_every_rule_names_a_setting_that_exists_and_stands_in_the_runbook() -> None:
    runbook = (ROOT / "docs/watching.md").read_text("utf-8")
    for rule in RULES:
        assert rule.setting is None or rule.setting in Service.__dataclass_fields__, rule.name
        assert f"**{rule.name}**" in runbook
    assert {rule for rule, _ in TROUBLES} == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 seconds"), (125, "2 minutes"), (7300, "2 hours"), (2e5, "2 days")]
)
def test_spans_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert span(timedelta(seconds=seconds)) == said
