"""How late a visit's first request reaches its site: 20 channels on 4 hosts, each due every minute, one real worker.

    .venv/bin/python benchmarks/latency.py [--minutes 3]

First with processes that end after their last visit, so that each minute's first visit of a host begins in a new one; then
with processes that linger, as they do by default.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from storage.names import series_of  # noqa: E402
from storage.watched import put_dues  # noqa: E402
from tests.manychannels import ManyChannels  # noqa: E402
from tests.watching import Cluster, wait_for  # noqa: E402

HOSTS, CHANNELS = 4, 20
NEW, LINGERS, BEHIND = "in a new process", "in a process that lingered", "behind another visit of its host"
_VISITS = """
SELECT v.id, v.due_at, v.started_at, v.ended_at, v.host, v.state, s.url, w.warc FROM visits v
JOIN sources s ON s.id = v.source_id JOIN warc_runs w ON w.run_id = v.run_id ORDER BY v.started_at
"""


@dataclass(frozen=True, slots=True)
class Lag:
    """Seconds from when a visit was due until its host's process took it, and until its site saw the first page's request."""

    how: str
    taken: float
    seconds: float


def watch_for(folder: Path, minutes: int, linger_seconds: float) -> list[Lag]:
    """Watch the channels for so many due times; how late each visit was."""
    settings = {"OSINT_LINGER_SECONDS": str(linger_seconds), "OSINT_WORKER_CONCURRENCY": str(HOSTS)}
    with (
        ManyChannels(folder / "channels", hosts=HOSTS, channels=CHANNELS, every_seconds=30) as channels,
        Cluster(folder, **settings) as cluster,
    ):
        first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        first += timedelta(minutes=1) * (first - datetime.now(UTC) < timedelta(seconds=20))
        rows = cluster.watch(channels.urls(), "* * * * *")
        with cluster.catalog.begin() as connection:
            put_dues(connection, {row.id: first for row in rows})
        cluster.start("m1")
        wait_for(lambda: cluster.rows("SELECT 1 FROM machines"), 60, lambda: cluster.said("m1"))
        time.sleep((first - datetime.now(UTC)).total_seconds() + 60 * minutes - 5)
        with cluster.catalog.begin() as connection:
            put_dues(connection, {row.id: None for row in rows})
        wait_for(cluster.ended, 60, cluster.visits)
        visits = cluster.rows(_VISITS)
        missed = [row for row in cluster.visits() if row["state"] != "done"]
        assert not missed and len(visits) == CHANNELS * minutes, (missed, len(visits))
        return list(lags(visits, channels.asked()))


def lags(visits: Sequence[dict[str, Any]], asked: Sequence[tuple[float, str, str]]) -> Iterable[Lag]:
    """Find each visit's first request, and what it found of its host's process."""
    requests = defaultdict(list)
    for at, host, name in asked:
        requests[host, name].append(at)
    seen: set[str] = set()
    ended: dict[str, datetime] = {}
    for visit in visits:
        name = visit["url"].rpartition("/")[2]
        begun, process = visit["started_at"].timestamp(), series_of(visit["warc"])
        at = next(one for one in requests[visit["host"], name] if one >= begun - 0.001)
        how = BEHIND if visit["due_at"] < ended.get(visit["host"], datetime.min.replace(tzinfo=UTC)) else LINGERS
        how = how if process in seen else NEW
        seen.add(process)
        ended[visit["host"]] = visit["ended_at"]
        due_at = visit["due_at"].timestamp()
        yield Lag(how, begun - due_at, at - due_at)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=int, default=3)
    given = parser.parse_args(arguments)
    print(
        "| processes | the visit begins | visits | p50 s | p95 s | max s |\n|---|---|---:|---:|---:|---:|", flush=True
    )
    for words, linger_seconds in (("end at once", 0), ("linger", 75)):
        with tempfile.TemporaryDirectory(prefix="osint-latency-", dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
            found = watch_for(Path(folder), given.minutes, linger_seconds)
        for how in (NEW, LINGERS, BEHIND):
            if chosen := sorted(one.seconds for one in found if one.how == how):
                taken = sorted(one.taken for one in found if one.how == how)
                cells = (words, how, str(len(chosen)), _quantiles(taken)[0], *_quantiles(chosen))
                print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f}")


def _quantiles(chosen: Sequence[float]) -> list[str]:
    return [f"{chosen[min(len(chosen) - 1, int(len(chosen) * share))]:.2f}" for share in (0.5, 0.95, 1)]


if __name__ == "__main__":
    main(sys.argv[1:])
