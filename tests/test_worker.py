"""Workers as real processes: what is due is visited, once, whatever dies meanwhile."""

import os
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from storage.rebuilding import begin_rebuilding, end_rebuilding
from storage.visits import ask_now
from tests.commands import kill_group
from tests.manychannels import ManyChannels
from tests.rawserver import RawServer, Request, answer
from tests.watching import Cluster, wait_for

PATIENCE = 90.0
PAGE = answer(
    b"<html><head><title>t</title></head><body><article>"
    + "Затрымалі чалавека. ".encode() * 40
    + b"</article></body></html>"
)


def whole(cluster: Cluster) -> None:
    """Everything captured verifies, nothing stands twice, the store alone gives the same catalogue."""
    osint = cluster.machine("m1")
    counts = osint.claims()
    assert counts["PASS"] > 0 and counts["FAIL"] == 0
    posts = osint.rows("find", "--kind", "post", "--limit", "10000")
    assert len({(row["source"], row["post_id"]) for row in posts}) == len(posts)


def test_what_is_due_is_visited_and_brought_to_the_store(tmp_path: Path) -> None:
    """Two hosts, six channels: a process for each host, a run for each channel; a schedule's next time is set."""
    with (
        ManyChannels(tmp_path / "channels", hosts=2, channels=6, every_seconds=3600) as channels,
        Cluster(tmp_path, OSINT_UPLOAD_EVERY_SECONDS="1", OSINT_LINGER_SECONDS="0") as cluster,
    ):
        cluster.watch(channels.urls(), "17 4 * * *")
        cluster.start("m1")
        wait_for(cluster.ended, PATIENCE, cluster.visits)
        found = cluster.visits()
        assert [(one["state"], one["outcome"], one["attempt"]) for one in found] == [("done", "complete", 1)] * 6, found
        assert len({one["run_id"] for one in found}) == 6
        posts = cluster.rows("SELECT count(*) AS posts, count(DISTINCT source_id) AS sources FROM posts")
        assert posts == [{"posts": 18, "sources": 6}]
        due = cluster.rows("SELECT count(*) AS n FROM due WHERE at > now()")
        assert due == [{"n": 6}]
        wait_for(
            lambda: (
                cluster.rows("SELECT 1 FROM warc_files")
                and not cluster.rows("SELECT 1 FROM warc_files WHERE state <> 'preserved'")
            ),
            PATIENCE,
        )
        (machine,) = cluster.rows("SELECT * FROM machines")
        assert machine["name"] == "m1" and machine["worker"].startswith("m1:")
        assert cluster.stop("m1") == 0, cluster.said("m1")
        assert "Traceback" not in cluster.said("m1"), cluster.said("m1")
        whole(cluster)
        assert not cluster.rows("SELECT 1 FROM procrastinate_jobs WHERE status = 'doing'")


def test_two_machines_never_visit_a_host_at_once_and_no_visit_is_made_twice(tmp_path: Path) -> None:
    with (
        ManyChannels(tmp_path / "channels", hosts=3, channels=12, every_seconds=3600) as channels,
        Cluster(tmp_path, OSINT_LINGER_SECONDS="0") as cluster,
    ):
        cluster.watch(channels.urls())
        for name in ("m1", "m2"):
            cluster.start(name)
        wait_for(cluster.ended, PATIENCE, cluster.visits)
        found = cluster.visits()
        assert len(found) == 12 and {one["state"] for one in found} == {"done"}, found
        assert len(channels.asked()) == 12, "each channel has one page"
        by_host: dict[str, list[tuple[float, float]]] = {}
        for one in found:
            by_host.setdefault(one["host"], []).append((one["started_at"].timestamp(), one["ended_at"].timestamp()))
        for spans in by_host.values():
            spans.sort()
            assert all(left[1] <= right[0] for left, right in pairwise(spans)), spans
        for name in ("m1", "m2"):
            assert cluster.stop(name) == 0


class Held:
    """A page that is not answered until it is let go."""

    def __init__(self) -> None:
        self.free = False

    def __call__(self, sock: socket.socket, request: Request) -> bool:
        deadline = time.monotonic() + PATIENCE
        while not self.free and time.monotonic() < deadline:
            time.sleep(0.05)
        sock.sendall(PAGE)
        return True


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_a_killed_workers_visit_is_taken_over_and_its_process_dies_with_it(tmp_path: Path) -> None:
    held = Held()
    with RawServer({"/slow": held}) as server, Cluster(tmp_path, OSINT_WORKER_GONE_SECONDS="6") as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        first = cluster.start("m1")
        wait_for(lambda: server.asked("/slow"), PATIENCE, lambda: cluster.said("m1"))
        started = children_of(first.pid)
        assert started
        cluster.start("m2")
        cluster.kill("m1")
        killed_at = time.monotonic()
        wait_for(lambda: len(server.asked("/slow")) >= 2, 60, lambda: (cluster.visits(), cluster.said("m2")))
        took = time.monotonic() - killed_at
        held.free = True
        wait_for(cluster.ended, PATIENCE, cluster.visits)
        (visit,) = cluster.visits()
        assert (visit["state"], visit["outcome"], visit["attempt"]) == ("done", "complete", 2), visit
        assert visit["worker"].startswith("m2:") and len(visit["detail"]["runs"]) == 1
        assert took < 30, f"taken over after {took:.1f} s"
        wait_for(lambda: not any(one.is_running() and one.status() != "zombie" for one in started), PATIENCE)
        assert cluster.stop("m2") == 0
        cluster.machine("m1").run("recover")
        runs = cluster.machine("m1").rows("runs")
        assert len(runs) == 2 and all(run["outcome"] for run in runs), runs


def test_a_stopped_worker_gives_its_visit_back_and_the_next_goes_on(tmp_path: Path) -> None:
    held = Held()
    with RawServer({"/slow": held}) as server, Cluster(tmp_path, OSINT_STOP_SECONDS="1") as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        cluster.start("m1")
        wait_for(lambda: server.asked("/slow"), PATIENCE, lambda: cluster.said("m1"))
        begun = time.monotonic()
        assert cluster.stop("m1") == 0
        assert time.monotonic() - begun < 12
        (visit,) = cluster.visits()
        assert visit["state"] == "due" and "stopped" in visit["reason"], visit
        held.free = True
        cluster.start("m1")
        wait_for(cluster.ended, PATIENCE, cluster.visits)
        (visit,) = cluster.visits()
        assert (visit["state"], visit["outcome"]) == ("done", "complete"), visit
        assert cluster.stop("m1") == 0


def test_a_visit_whose_process_takes_too_much_is_parked_with_its_reason(tmp_path: Path) -> None:
    settings = {
        "OSINT_CRAWL_MEMORY_BYTES": "1",
        "OSINT_VISIT_ATTEMPTS": "2",
        "OSINT_VISIT_AGAIN_SECONDS": "0",
        "OSINT_STOP_SECONDS": "0.5",
    }
    held = Held()
    with RawServer({"/slow": held}) as server, Cluster(tmp_path, **settings) as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        cluster.start("m1")
        wait_for(cluster.ended, PATIENCE, lambda: (cluster.visits(), cluster.said("m1")))
        (visit,) = cluster.visits()
        assert visit["state"] == "parked" and "OSINT_CRAWL_MEMORY_BYTES" in visit["reason"], visit
        assert cluster.stop("m1") == 0


def test_the_database_goes_away_and_comes_back(tmp_path: Path) -> None:
    with (
        ManyChannels(tmp_path / "channels", hosts=1, channels=2, every_seconds=3600) as channels,
        Cluster(tmp_path, OSINT_LINGER_SECONDS="0", OSINT_VISIT_AGAIN_SECONDS="0") as cluster,
    ):
        cluster.start("m1")
        wait_for(lambda: cluster.rows("SELECT 1 FROM machines"), PATIENCE, lambda: cluster.said("m1"))
        for process in cluster.postgres._processes():
            process.send_signal(signal.SIGKILL)
        wait_for(lambda: "cannot be served" in cluster.said("m1"), PATIENCE, lambda: cluster.said("m1"))
        cluster.postgres.start()
        cluster.watch(channels.urls())
        wait_for(cluster.ended, PATIENCE, lambda: (cluster.visits(), cluster.said("m1")))
        assert {one["state"] for one in cluster.visits()} == {"done"}
        assert cluster.stop("m1") == 0


def test_a_worker_refuses_a_newer_schema_with_a_sentence(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        with cluster.catalog.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        done = cluster.machine("m1").run("worker", code=6)
        assert "schema 9999" in done.stderr and "newer program" in done.stderr


def test_a_worker_whose_database_was_migrated_meanwhile_stops_and_gives_its_visit_back(tmp_path: Path) -> None:
    held = Held()
    with RawServer({"/slow": held}) as server, Cluster(tmp_path, OSINT_STOP_SECONDS="1") as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        worker = cluster.start("m1")
        wait_for(lambda: server.asked("/slow"), PATIENCE, lambda: cluster.said("m1"))
        with cluster.catalog.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        assert worker.wait(30) == 6, cluster.said("m1")
        del cluster.workers["m1"]
        said = cluster.said("m1")
        assert "schema 9999" in said and "gives its visits back" in said and "newer program" in said, said
        assert "Traceback" not in said, said
        (visit,) = cluster.visits()
        assert visit["state"] == "due" and visit["worker"] is None, visit
        assert not cluster.rows("SELECT 1 FROM procrastinate_jobs WHERE status = 'doing'")
        held.free = True


@pytest.mark.parametrize("queues", ["", "crawl,nothing"])
def test_a_queue_that_there_is_not_is_bad_input(queues: str, tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        assert "names a queue" in cluster.machine("m1").run("worker", "--queues", queues, code=2).stderr


def test_up_runs_all_of_it_and_stops_cleanly(tmp_path: Path) -> None:
    from storage.catalog import Catalog
    from storage.embedded_postgres import EmbeddedPostgres
    from tests.commands import Osint

    osint = Osint(
        tmp_path / "home",
        OSINT_LINGER_SECONDS="0",
        OSINT_UPLOAD_EVERY_SECONDS="1",
        OSINT_METRICS_LISTEN="127.0.0.1:0",
    )
    with RawServer({"/one": PAGE}) as server:
        up = osint.start("up")
        try:
            wait_for(
                lambda: (osint.home / "postgres" / "password").exists() and osint.rows("runs") is not None, PATIENCE
            )
            cluster = Cluster(tmp_path)
            server_ = EmbeddedPostgres(osint.home / "postgres")
            with Catalog.open(server_.start()) as cluster.catalog:
                (source,) = cluster.watch([f"{server.url}/one"], spider="page")
                ask_now(cluster.catalog, [(source.id, "127.0.0.1")], priority=1, at=source.created_at)
                wait_for(cluster.ended, PATIENCE, cluster.visits)
                wait_for(lambda: cluster.rows("SELECT 1 FROM warc_files WHERE state = 'preserved'"), PATIENCE)
            server_.leave()
            os.kill(up.pid, signal.SIGTERM)
            _, err = up.communicate(timeout=30)
            assert up.returncode == 0 and "Traceback" not in err, err
            postgres = osint.home / "postgres" / "data" / "postmaster.pid"
            assert not postgres.exists(), "the embedded database runs on"
        finally:
            kill_group(up)
            osint.run("down")


def test_a_tick_that_a_dead_worker_left_stops_nothing(tmp_path: Path) -> None:
    with RawServer({"/one": PAGE}) as server, Cluster(tmp_path, OSINT_LINGER_SECONDS="0") as cluster:
        with cluster.catalog.begin() as connection:
            left = "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, status) VALUES "
            connection.execute(
                text(left + "('clock', 'tick', 'tick', 'doing'), ('clock', 'alerts', 'alerts', 'doing')")
            )
        cluster.watch([f"{server.url}/one"], spider="page")
        cluster.start("m1")
        wait_for(cluster.ended, PATIENCE, lambda: (cluster.visits(), cluster.said("m1")))
        assert cluster.stop("m1") == 0


def test_a_visit_that_cannot_begin_is_parked_and_holds_up_no_other(tmp_path: Path) -> None:
    """A source of a site module that this program does not know, written by a newer one."""
    settings = {"OSINT_LINGER_SECONDS": "0", "OSINT_VISIT_AGAIN_SECONDS": "0", "OSINT_VISIT_ATTEMPTS": "2"}
    with RawServer({"/one": PAGE}) as server, Cluster(tmp_path, **settings) as cluster:
        cluster.watch([f"{server.url}/unknown"], spider="unheard-of")
        cluster.watch([f"{server.url}/one"], spider="page")
        cluster.start("m1")
        wait_for(cluster.ended, PATIENCE, lambda: (cluster.visits(), cluster.said("m1")))
        found = {one["url"].rpartition("/")[2]: (one["state"], one["outcome"]) for one in cluster.visits()}
        assert found == {"unknown": ("parked", None), "one": ("done", "complete")}
        assert cluster.stop("m1") == 0


def test_a_worker_that_is_stopped_twice_blames_no_visit(tmp_path: Path) -> None:
    held = Held()
    with RawServer({"/slow": held}) as server, Cluster(tmp_path) as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        worker = cluster.start("m1")
        wait_for(lambda: server.asked("/slow"), PATIENCE, lambda: cluster.said("m1"))
        worker.send_signal(signal.SIGTERM)
        wait_for(lambda: worker.poll() is None, 1)
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
        (visit,) = cluster.visits()
        assert visit["state"] in ("due", "running") and not visit["detail"].get("died"), visit


def test_a_busy_host_makes_room_when_its_process_has_had_its_time(tmp_path: Path) -> None:
    """One place, forty visits of one host and one of another: the other is visited before the forty are done."""
    settings = {"OSINT_PROCESS_SECONDS": "1", "OSINT_DELAY_SECONDS": "0"}
    with (
        ManyChannels(tmp_path / "channels", hosts=2, channels=41, every_seconds=3600) as channels,
        Cluster(tmp_path, **settings) as cluster,
    ):
        cluster.watch(channels.url(1, number) for number in range(40))
        cluster.watch([channels.url(2, 40)])
        cluster.start("m1", "--concurrency", "1")
        wait_for(cluster.ended, PATIENCE, cluster.visits)
        by_host = {
            host: [one["started_at"] for one in cluster.visits() if one["host"] == host]
            for host in ("127.0.0.1", "127.0.0.2")
        }
        assert max(by_host["127.0.0.2"]) < max(by_host["127.0.0.1"]), by_host
        assert {one["state"] for one in cluster.visits()} == {"done"}
        assert cluster.stop("m1") == 0


def test_a_hung_process_is_killed_and_its_visit_parked_with_the_reason(tmp_path: Path) -> None:
    settings = {
        "OSINT_VISIT_SECONDS": "1",
        "OSINT_HUNG_SECONDS": "1",
        "OSINT_STOP_SECONDS": "0.5",
        "OSINT_VISIT_ATTEMPTS": "1",
        "OSINT_WORKER_GONE_SECONDS": "60",
    }
    held = Held()
    with RawServer({"/slow": held}) as server, Cluster(tmp_path, **settings) as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        worker = cluster.start("m1")
        wait_for(lambda: server.asked("/slow"), PATIENCE, lambda: cluster.said("m1"))
        (visiting,) = [one for one in children_of(worker.pid) if os.getsid(one.pid) == one.pid]
        visiting.send_signal(signal.SIGSTOP)  # as C code that does not come back
        wait_for(cluster.ended, PATIENCE, lambda: (cluster.visits(), cluster.said("m1")))
        (visit,) = cluster.visits()
        assert visit["state"] == "parked" and "did not end it" in visit["reason"], visit
        assert cluster.stop("m1") == 0


def test_a_process_that_loses_its_hold_of_the_host_stops_and_the_visit_is_made_again(tmp_path: Path) -> None:
    held = Held()
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'osint-pipeline host lock'"
    with RawServer({"/slow": held}) as server, Cluster(tmp_path, OSINT_STOP_SECONDS="1") as cluster:
        cluster.watch([f"{server.url}/slow"], spider="page")
        cluster.start("m1")
        wait_for(lambda: server.asked("/slow"), PATIENCE, lambda: cluster.said("m1"))
        assert cluster.rows(ended)
        wait_for(lambda: len(server.asked("/slow")) == 2, PATIENCE, lambda: (cluster.visits(), cluster.said("m1")))
        assert "the hold of the host is lost" in cluster.said("m1")
        held.free = True
        wait_for(cluster.ended, PATIENCE, cluster.visits)
        (visit,) = cluster.visits()
        assert (visit["state"], visit["outcome"], visit["attempt"]) == ("done", "complete", 2), visit
        assert cluster.stop("m1") == 0


def test_housekeeping_goes_on_after_what_it_could_not_do(tmp_path: Path) -> None:
    """While a catalogue is being made again nothing else may use it; afterwards all goes on as before."""
    settings = {"OSINT_UPLOAD_EVERY_SECONDS": "0.5", "OSINT_LINGER_SECONDS": "0"}
    with RawServer({"/one": PAGE}) as server, Cluster(tmp_path, **settings) as cluster:
        cluster.start("m1")
        wait_for(lambda: cluster.rows("SELECT 1 FROM machines"), PATIENCE, lambda: cluster.said("m1"))
        begin_rebuilding(cluster.catalog)
        wait_for(lambda: "is being made again" in cluster.said("m1"), PATIENCE, lambda: cluster.said("m1"))
        end_rebuilding(cluster.catalog)
        cluster.watch([f"{server.url}/one"], spider="page")
        wait_for(
            lambda: cluster.rows("SELECT 1 FROM warc_files WHERE state = 'preserved'"),
            PATIENCE,
            lambda: (cluster.visits(), cluster.said("m1")),
        )
        assert cluster.stop("m1") == 0
