"""What Prometheus is given: names by its rules, figures of the catalogue, an endpoint that hostile clients do not stop."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from osint_pipeline import web_metrics
from osint_pipeline.errors import UserError
from osint_pipeline.measures import measure
from osint_pipeline.metrics import render
from osint_pipeline.web_metrics import listening, serve
from osint_pipeline.workspace import Workspace
from storage.events import add_event
from storage.migrating import known
from tests.commands import Osint
from tests.world import NOW, World, ago, emptied, open_workspace

ROOT = Path(__file__).parent.parent
MONITORING = ROOT / "docs" / "monitoring"
PROMTOOL = ROOT / ".tools" / "promtool"


@pytest.fixture
def workspace(tmp_path: Path, module_url: str) -> Iterator[Workspace]:
    with open_workspace(tmp_path, emptied(module_url), OSINT_METRICS_LISTEN="127.0.0.1:0") as opened:
        yield opened


@pytest.fixture
def world(workspace: Workspace) -> World:
    return World(workspace.catalog)


def full(world: World) -> None:
    source = world.source("kanal")
    run = world.run(source, ago(minutes=30), "partial", captured=1, refused=2, gaps=7)
    world.captures(run, source, 2, "refused", verdict="challenge")
    world.visit(source, ago(minutes=31))
    world.visit(source, ago(minutes=10), "due")
    detail = {
        "disk_bytes": 10**12,
        "disk_free_bytes": 10**11,
        "clock": {"offset_seconds": 0.5},
        "spool_oldest_at": ago(hours=1),
    }
    other = world.source("other")
    world.replay(world.replays(other, 0.5, 0.95, 1.0, at=ago(hours=3))[1], 0.3, ago(hours=2))
    world.replays(other, 0.5, explains=True)
    world.replays(other, 0.5, at=ago(hours=25))
    world.machine("m1", ago(seconds=4), last_upload_at=ago(hours=1), **detail)
    add_event(world.catalog, "preserved", "a.warc.gz", None, {})
    world.sql(
        "INSERT INTO alerts (id, rule, subject, severity, said, began_at, detail) "
        "VALUES (gen_random_uuid(), 'disk-low', 'm1', 'critical', 'x', :at, '{}')",
        at=NOW,
    )
    world.sql(
        "INSERT INTO walls VALUES ('x.example', 'direct', 'wire', 'challenge', 'a check', :at, :at, 2)", at=ago(hours=1)
    )
    world.sql(
        "INSERT INTO walls VALUES ('y.example', 'direct', 'wire', 'challenge', 'a check', :at, :at, 2)",
        at=ago(hours=30),
    )


def page(workspace: Workspace, now: datetime = NOW) -> str:
    found = measure(workspace.catalog, now)
    return render(lambda: found).decode()


def samples(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
            found[f"{one.name}{{{labels}}}"] = one.value
    return found


def promtool(*words: str | Path, given: str | None = None) -> "subprocess.CompletedProcess[str]":
    program = shutil.which(str(PROMTOOL)) or shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: Debian's package prometheus, or .ci/tools")
    return subprocess.run([program, *map(str, words)], input=given, capture_output=True, text=True, timeout=60)


def test_figures_are_the_catalogues(workspace: Workspace, world: World) -> None:
    full(world)
    found = samples(page(workspace))
    wanted = {
        "osint_source_freshness_lag_seconds{source=kanal,spider=news}": 600,
        "osint_source_last_success_timestamp_seconds{source=kanal,spider=news}": ago(minutes=30).timestamp(),
        "osint_source_silent_after_seconds{source=kanal,spider=news}": 86400,
        "osint_visits_open{state=due}": 1,
        "osint_visit_oldest_due_seconds{}": 600,
        "osint_visit_lag_seconds{quantile=0.5}": 10,
        "osint_visit_lag_seconds_sum{}": 10,
        "osint_captures_total{state=refused}": 2,
        "osint_captures_refused_total{kind=challenge}": 2,
        "osint_gaps{}": 7,
        "osint_walled_hosts{fetcher=wire,verdict=challenge}": 1,
        "osint_machines_seen_seconds{machine=m1}": 4,
        "osint_spool_oldest_seconds{machine=m1}": 3600,
        "osint_clock_offset_seconds{machine=m1}": 0.5,
        "osint_alerts_open{rule=disk-low,severity=critical}": 1,
        "osint_warcs_preserved_total{}": 1,
        "osint_replay_checks{result=good}": 1,
        "osint_replay_checks{result=bad}": 2,
        "osint_replay_checks{result=unsteady}": 1,
        "osint_database_up{}": 1,
    }
    assert {key: found.get(key) for key in wanted} == wanted
    assert "https://" not in page(workspace) and "x.example" not in page(workspace)


def test_prometheus_finds_nothing_to_say_of_the_names(workspace: Workspace, world: World) -> None:
    full(world)
    done = promtool("check", "metrics", given=page(workspace))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_rules_hold_what_they_promise() -> None:
    for words in (("check", "rules"), ("test", "rules")):
        name = "alert-rules.test.yml" if words[0] == "test" else "alert-rules.yml"
        done = promtool(*words, MONITORING / name)
        assert done.returncode == 0, done.stdout + done.stderr
    done = promtool("check", "config", "--syntax-only", MONITORING / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> Iterator[tuple[str, str]]:
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text("utf-8"))
    yield from ((panel["title"], one["expr"]) for panel in board["panels"] for one in panel.get("targets", ()))
    yield from ((one["name"], json.dumps(one)) for one in board["templating"]["list"])
    rules = yaml.safe_load((MONITORING / "alert-rules.yml").read_text("utf-8"))
    yield from ((rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"])


def test_dashboard_and_rules_name_only_metrics_that_exist_and_the_document_all(
    workspace: Workspace, world: World
) -> None:
    full(world)
    families = list(text_string_to_metric_families(page(workspace)))
    names = {sample.name for family in families for sample in family.samples} | {family.name for family in families}
    used = [(where, name) for where, text in expressions() for name in re.findall(r"\bosint_[a-z_]+", text)]
    assert len(used) > 60 and [one for one in used if one[1] not in names] == []
    documented = set(re.findall(r"`(osint_[a-z_]+)`", (ROOT / "docs/watching.md").read_text("utf-8")))
    exported = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    assert documented == exported


def test_the_dashboard_has_its_rows_and_places_nothing_on_another() -> None:
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text("utf-8"))
    rows = [one["title"] for one in board["panels"] if one["type"] == "row"]
    assert rows == ["Overview", "Sources", "Queue", "Store", "Machines"]
    taken: set[tuple[int, int]] = set()
    for one in board["panels"]:
        at = one["gridPos"]
        here = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not here & taken and max(x for x, _ in here) < 24, one["title"]
        taken |= here
    assert len({one["id"] for one in board["panels"]}) == len(board["panels"])


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_endpoint_says_whether_work_is_done(workspace: Workspace, world: World) -> None:
    with listening(workspace.service) as address:
        assert address
        assert get(address, "/healthz") == (200, "alive\n")
        assert get(address, "/readyz") == (503, "no worker was ever seen\n")
        world.machine("m1", datetime.now(UTC) - timedelta(seconds=100))
        assert re.fullmatch(r"no worker was seen for 10\d s\n", get(address, "/readyz")[1])
        world.machine("m1", datetime.now(UTC))
        assert get(address, "/readyz") == (200, "ready\n")
        code, text = get(address, "/metrics")
        assert code == 200 and samples(text)["osint_database_up{}"] == 1
        assert get(address, "/metrics/../etc/passwd")[0] == 404
        world.sql("UPDATE alembic_version SET version_num = '0001'")
        code, why = get(address, "/readyz")
        assert code == 503 and "0001" in why
        world.sql("UPDATE alembic_version SET version_num = :ours", ours=known()[-1])


def test_a_scrape_is_kept_for_a_while_and_made_one_at_a_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, under_way, most = [], [], []
    real = web_metrics.measure

    def counted(*words: Any, **more: Any) -> Any:
        under_way.append(1)
        most.append(len(under_way))
        made.append(real(*words, **more))
        under_way.pop()
        return made[-1]

    monkeypatch.setattr(web_metrics, "measure", counted)
    with listening(workspace.service) as address:
        assert address
        threads = [threading.Thread(target=get, args=(address, "/metrics")) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert len(made) == 1 and max(most) == 1


def test_without_a_database_it_lives_and_says_so(tmp_path: Path) -> None:
    more = {"OSINT_METRICS_LISTEN": "127.0.0.1:0", "OSINT_DATABASE_CONNECT_SECONDS": "2"}
    workspace = open_workspace(tmp_path, "postgresql://geheim:geheim@127.0.0.1:9/geheim", **more)
    with workspace, listening(workspace.service) as address:
        assert address
        assert get(address, "/healthz")[0] == 200
        code, text = get(address, "/metrics")
        assert code == 200 and samples(text)["osint_database_up{}"] == 0
        code, why = get(address, "/readyz")
        assert (code, why) == (503, "the catalogue could not be reached or used\n")


def test_clients_that_say_nothing_stop_nobody(workspace: Workspace) -> None:
    with listening(workspace.service) as address:
        assert address
        host, _, port = address.rpartition(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(40)]
        try:
            deadline = time.monotonic() + 30
            while True:  # those above the bound are turned away, the others time out after their patience
                try:
                    assert get(address, "/healthz")[0] == 200
                    break
                except (OSError, urllib.error.URLError):
                    assert time.monotonic() < deadline
                    for one in idle[:5]:
                        one.close()
                    time.sleep(0.05)
        finally:
            for one in idle:
                one.close()


def test_a_head_has_no_body_and_a_post_is_refused(workspace: Workspace) -> None:
    with listening(workspace.service) as address:
        assert address
        connection = HTTPConnection(address, timeout=10)
        connection.request("HEAD", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.read(), answer.headers["Server"]) == (200, b"", "osint-pipeline")
        connection.close()
        connection = HTTPConnection(address, timeout=10)
        connection.request("POST", "/metrics", body=b"x")
        assert connection.getresponse().status == 501
        connection.close()


def test_it_ends_when_it_is_told_to_and_names_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            open_workspace(tmp_path, "postgresql://127.0.0.1:9/x", OSINT_METRICS_LISTEN=where) as workspace,
            pytest.raises(UserError, match="cannot listen"),
        ):
            serve(workspace.service, threading.Event())
    with open_workspace(tmp_path, "postgresql://127.0.0.1:9/x", OSINT_METRICS_LISTEN="127.0.0.1:0") as workspace:
        stop = threading.Event()
        thread = threading.Thread(target=serve, args=(workspace.service, stop))
        thread.start()
        stop.set()
        thread.join(20)
        assert not thread.is_alive()
    with open_workspace(tmp_path, "postgresql://127.0.0.1:9/x", OSINT_METRICS_LISTEN="off") as workspace:
        serve(workspace.service, threading.Event())


def test_the_command_prints_them_once(tmp_path: Path, module_url: str) -> None:
    done = Osint(tmp_path / "home", OSINT_DATABASE_URL=module_url.replace("+psycopg", "")).run("metrics", "--once")
    assert samples(done.stdout)["osint_database_up{}"] == 1


def test_the_command_answers_until_it_is_stopped(tmp_path: Path, module_url: str) -> None:
    more = {"OSINT_DATABASE_URL": module_url.replace("+psycopg", ""), "OSINT_METRICS_LISTEN": "127.0.0.1:0"}
    process = Osint(tmp_path / "home", **more).start("metrics")
    try:
        assert process.stdout
        address = process.stdout.readline().removeprefix("listening on ").strip()
        assert get(address, "/healthz") == (200, "alive\n") and get(address, "/metrics")[0] == 200
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said.strip()) == (130, "stopped")
