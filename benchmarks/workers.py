"""Visits per minute with one, two and four workers: 400 visits over 8 hosts, asked for at once.

    .venv/bin/python benchmarks/workers.py [--visits 400] [--workers 1,2,4,1] [--concurrency 1]

Each worker visits `--concurrency` hosts at once. All visit channels that are known by then: a round before the first is not
counted. Sites, database, store and workers share this machine.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from osint_pipeline.source import host_of  # noqa: E402
from storage.rows import SourceRow  # noqa: E402
from storage.visits import ask_now  # noqa: E402
from storage.watched import put_dues  # noqa: E402
from tests.manychannels import ManyChannels  # noqa: E402
from tests.watching import Cluster, wait_for  # noqa: E402

HOSTS = 8
_BEGAN = "SELECT min(started_at) AS begun, max(ended_at) AS ended FROM visits WHERE due_at = :at"
_OPEN = "SELECT count(*) AS n FROM visits WHERE state IN ('due', 'running')"


def make_round(cluster: Cluster, sources: Sequence[SourceRow], workers: int) -> tuple[float, float, float]:
    """Ask for a visit of each source: seconds until all are made, seconds until the first began, the machine's idle share."""
    names = [f"m{number}" for number in range(1, workers + 1)]
    begun = datetime.now(UTC)
    for name in names:
        cluster.start(name)
    known = "SELECT count(*) AS n FROM machines WHERE seen_at > :begun"
    wait_for(lambda: cluster.rows(known, begun=begun)[0]["n"] >= workers, 60, lambda: cluster.said(names[0]))
    time.sleep(3)  # what a start costs is not counted
    at, started = datetime.now(UTC), time.monotonic()
    psutil.cpu_percent()
    ask_now(cluster.catalog, [(one.id, host_of(one.url)) for one in sources], priority=1, at=at)
    wait_for(lambda: cluster.rows(_OPEN)[0]["n"] == 0, 900, cluster.visits)
    took, idle = time.monotonic() - started, 1 - psutil.cpu_percent() / 100
    for name in names:
        assert cluster.stop(name) == 0, cluster.said(name)
    assert {row["outcome"] for row in cluster.visits()} == {"complete"}
    (spans,) = cluster.rows(_BEGAN, at=at)
    return took, (spans["begun"] - at).total_seconds(), idle


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--visits", type=int, default=400)
    parser.add_argument("--workers", type=lambda given: [int(one) for one in given.split(",")], default=[1, 2, 4, 1])
    parser.add_argument("--concurrency", type=int, default=1)
    given = parser.parse_args(arguments)
    settings = {"OSINT_WORKER_CONCURRENCY": str(given.concurrency), "OSINT_LINGER_SECONDS": "0"}
    with (
        tempfile.TemporaryDirectory(prefix="osint-workers-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder,
        ManyChannels(Path(folder) / "channels", hosts=HOSTS, channels=given.visits, every_seconds=1e9) as channels,
        Cluster(Path(folder), **settings) as cluster,
    ):
        sources = cluster.watch(channels.urls())
        with cluster.catalog.begin() as connection:
            put_dues(connection, {one.id: None for one in sources})
        make_round(cluster, sources, max(given.workers))
        print(
            "| workers | visits/min | ratio | seconds | the first began after s | idle |\n|---:|---:|---:|---:|---:|---:|"
        )
        base = 0.0
        for workers in given.workers:
            took, first, idle = make_round(cluster, sources, workers)
            base = base or took
            print(
                f"| {workers} | {60 * len(sources) / took:.0f} | {base / took:.2f} | {took:.1f} | {first:.1f} | {idle:.0%} |",
                flush=True,
            )
        print(f"\nload {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores (shared)")


if __name__ == "__main__":
    main(sys.argv[1:])
