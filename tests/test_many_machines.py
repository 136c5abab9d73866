"""Machines, the database and the store die at random: every visit is accounted for, nothing is lost, nothing stands twice."""

import os
import random
import signal
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from storage.errors import StorageError
from storage.visits import ask_now
from tests.manychannels import ManyChannels, shown_at
from tests.watching import Cluster, wait_for

AWAY = (psycopg.Error, DBAPIError, StorageError)  # what a look at the catalogue ends with while the database is down
SETTINGS = {
    "OSINT_DELAY_SECONDS": "0",
    "OSINT_UPLOAD_EVERY_SECONDS": "5",
    "OSINT_VISIT_AGAIN_SECONDS": "0",
    "OSINT_VISIT_ATTEMPTS": "50",  # the machines die so often here that a visit may lose its process many times
    "OSINT_STORE_PATIENCE_SECONDS": "2",
    "OSINT_DATABASE_CONNECT_SECONDS": "5",
}


@dataclass(slots=True)
class Chaos:
    """Kills at random; knows what it killed and when."""

    cluster: Cluster
    names: list[str]
    dice: random.Random
    killed: list[tuple[float, str]] = field(default_factory=list)  # when, which worker (machine:pid)
    counts: dict[str, int] = field(default_factory=dict)

    def step(self) -> None:
        """Do one bad thing, and mend it as an operator's supervisor would."""
        what = self.dice.choices(("worker", "worker", "database", "store"), (4, 4, 1, 2))[0]
        self.counts[what] = self.counts.get(what, 0) + 1
        if what == "worker":
            name = self.dice.choice(self.names)
            self.killed.append((time.time(), f"{name}:{self.cluster.workers[name].pid}"))
            self.cluster.kill(name)
            self.cluster.start(name)
        elif what == "database":
            postmaster = getattr(self.cluster.postgres._postmaster(), "pid", None)
            for process in self.cluster.postgres._processes():
                if self.dice.random() < 0.5 or process.pid == postmaster:
                    _kill(process)
            self.cluster.postgres.start()
        else:
            if pid := self.cluster.store.pid():
                _kill(psutil.Process(pid))
            self.cluster.store.start()


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        pass


def all_is_well(cluster: Cluster, channels: ManyChannels, names: list[str], asked_last: float) -> None:
    """Everything is in the archive, once, verified; the store alone gives the same catalogue."""
    for name in names:
        machine = cluster.machine(name)
        machine.run("recover")
        machine.run("upload")
    visits = cluster.visits()
    states = {one["state"] for one in visits}
    assert states <= {"done", "missed"}, [one for one in visits if one["state"] not in ("done", "missed")][:3]
    assert {one["outcome"] for one in visits if one["state"] == "done"} == {"complete"}, states
    found = cluster.rows(
        "SELECT s.url, count(*) AS posts, count(DISTINCT p.post_id) AS ids, max(p.post_id::int) AS last "
        "FROM posts p JOIN sources s ON s.id = p.source_id GROUP BY s.url"
    )
    assert len(found) == channels.channels
    least = shown_at(channels.begun, asked_last, channels.every_seconds)
    for one in found:
        assert one["posts"] == one["ids"] == one["last"] >= least, (one, least)
    assert not cluster.rows("SELECT 1 FROM runs WHERE ended_at IS NULL")
    assert not cluster.rows("SELECT 1 FROM warc_files WHERE state <> 'preserved'")
    first = cluster.machine(names[0])
    assert first.claims()["FAIL"] == 0
    assert sum(row["differing"] for row in first.rows("rebuild", "--check", code=None)) == 0


def takeovers(cluster: Cluster, killed: list[tuple[float, str]]) -> list[float]:
    """How long each visit of a killed worker waited for its next attempt."""
    rows = cluster.rows("SELECT r.process, r.started_at, v.started_at AS again, v.attempt FROM visits v, runs r "
                        "WHERE v.attempt > 1 AND v.detail->'runs' ? r.id::text AND v.started_at IS NOT NULL")  # fmt: skip
    waits = []
    for row in rows:
        again = row["again"].timestamp()
        before = [at for at, _ in killed if at <= again]
        if before and row["started_at"].timestamp() < before[-1]:
            waits.append(again - before[-1])
    return waits


def test_a_short_chaos(tmp_path: Path) -> None:
    """Two machines, 8 channels, each asked for three times while something dies every few seconds."""
    dice, names = random.Random(20261125), ["m1", "m2"]
    with (
        ManyChannels(tmp_path / "channels", hosts=4, channels=8, every_seconds=5) as channels,
        Cluster(tmp_path, **SETTINGS, OSINT_LINGER_SECONDS="2", OSINT_WORKER_GONE_SECONDS="6") as cluster,
    ):
        rows = cluster.watch(channels.urls())
        for name in names:
            cluster.start(name)
        chaos, asked_last, asked = Chaos(cluster, names, dice), time.time(), 0
        for _ in range(3):
            wanted = [(row.id, row.url.split("/")[2].partition(":")[0]) for row in rows]
            at = datetime.now(UTC)
            asked += len(wait_for(lambda wanted=wanted, at=at: _ask(cluster, wanted, at), 60))
            asked_last = at.timestamp()
            for _ in range(2):
                time.sleep(dice.uniform(0.5, 2.5))  # what is random here is the moment
                chaos.step()
        wait_for(
            lambda: _ended(cluster), 150, lambda: (cluster.visits(), [cluster.said(name)[-1500:] for name in names])
        )
        for name in names:
            assert cluster.stop(name) == 0
        visits = cluster.visits()
        assert sum(one["why"] == "now" for one in visits) == asked == 24
        all_is_well(cluster, channels, names, asked_last)


def _ask(cluster: Cluster, wanted: list[tuple[object, str]], at: datetime) -> list[object]:
    try:
        return list(ask_now(cluster.catalog, wanted, priority=0, at=at))  # type: ignore[arg-type]
    except AWAY:
        return []


def _ended(cluster: Cluster) -> bool:
    try:
        return cluster.ended()
    except AWAY:
        return False


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_minutes_of_chaos_with_two_hundred_sources(tmp_path: Path) -> None:
    """Four machines, 200 channels on eight hosts, each due every minute."""
    dice, names = random.Random(7), ["m1", "m2", "m3", "m4"]
    with (
        ManyChannels(tmp_path / "channels", hosts=8, channels=200, every_seconds=30) as channels,
        Cluster(tmp_path, **SETTINGS) as cluster,
    ):
        cluster.watch(channels.urls(), "* * * * *")
        for name in names:
            cluster.start(name, "--concurrency", "2")
        chaos, end = Chaos(cluster, names, dice), time.monotonic() + float(os.environ.get("SOAK_SECONDS", "600"))
        while time.monotonic() < end:
            time.sleep(dice.uniform(3, 15))
            chaos.step()
        wait_for(lambda: _quiet(cluster), 60)
        asked_last = time.time()
        wait_for(
            lambda: _ended(cluster),
            300,
            lambda: [one for one in cluster.visits() if one["state"] in ("due", "running")][:5],
        )
        for name in names:
            assert cluster.stop(name) == 0
        all_is_well(cluster, channels, names, asked_last - 120)
        accounted(cluster)
        waits = sorted(takeovers(cluster, chaos.killed))
        done = sum(one["state"] == "done" for one in cluster.visits())
        warcs = cluster.rows("SELECT count(*) AS n FROM warc_files")[0]["n"]
        print(
            f"{chaos.counts}; {done} visits; {warcs} WARCs; takeovers {len(waits)}, slowest {waits[-1] if waits else 0:.1f} s"
        )
        assert not waits or waits[len(waits) * 95 // 100] <= 30, waits[-10:]


def _quiet(cluster: Cluster) -> bool:
    """Let nothing fall due any more."""
    try:
        cluster.rows("DELETE FROM due RETURNING source_id")
    except AWAY:
        return False
    return True


def accounted(cluster: Cluster) -> None:
    """Each minute between a source's first and last due time is a visit, or counted among those that were missed."""
    by_source: dict[object, list[dict[str, object]]] = {}
    for one in cluster.visits():
        by_source.setdefault(one["source_id"], []).append(one)
    for rows in by_source.values():
        minutes: set[datetime] = set()
        for one in rows[1:]:  # the first was due when the source was added
            due = one["due_at"]
            assert isinstance(due, datetime) and isinstance(one["detail"], dict)
            for number in range(one["detail"].get("count", 1)):
                minute = due.replace(second=0, microsecond=0) + timedelta(minutes=number)
                assert minute not in minutes or number, (minute, rows)
                minutes.add(minute)
        first, last = min(minutes), max(minutes)
        assert len(minutes) == (last - first) // timedelta(minutes=1) + 1, sorted(minutes)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hundred_channels_each_minute_for_ten_minutes(tmp_path: Path) -> None:
    """No drift, no double run, the lag's p95 within a minute, a handful of WARCs."""
    with (
        ManyChannels(tmp_path / "channels", hosts=2, channels=200, every_seconds=60) as channels,
        Cluster(tmp_path, OSINT_DELAY_SECONDS="0") as cluster,
    ):
        cluster.watch(channels.urls(), "* * * * *")
        cluster.start("m1")
        time.sleep(float(os.environ.get("SOAK_SECONDS", "600")) + 15)
        _quiet(cluster)
        wait_for(cluster.ended, 120)
        assert cluster.stop("m1") == 0
        visits = cluster.visits()
        lags = sorted((one["started_at"] - one["due_at"]).total_seconds() for one in visits if one["started_at"])
        merged = [one for one in visits if one["state"] != "done"]
        p50, p95 = lags[len(lags) // 2], lags[len(lags) * 95 // 100]
        warcs = cluster.rows("SELECT count(*) AS n, sum(size_bytes) AS bytes FROM warc_files")[0]
        asked = len(channels.asked())
        print(
            f"{len(visits)} visits, {len(merged)} not made; lag p50 {p50:.1f} p95 {p95:.1f} max {lags[-1]:.1f} s; {warcs}; {asked} pages asked"
        )
        accounted(cluster)
        assert {one["attempt"] for one in visits if one["state"] == "done"} == {1}
        assert len({(one["source_id"], one["due_at"]) for one in visits}) == len(visits)
        assert p95 <= 60 and warcs["n"] <= 12
        all_is_well(cluster, channels, ["m1"], time.time() - 200)
