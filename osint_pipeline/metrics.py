"""The measures in Prometheus' words. Counters come out of the catalogue: they are the same whoever is asked, and only grow.

Labels hold slugs, spiders, hosts' machine names and words of ours; no address, nothing that a page says.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from osint_pipeline.machine import Machine, program_version
from osint_pipeline.measures import Measures
from osint_pipeline.rules import silent_after
from storage.migrating import known

_PREFIX = "osint_"
_Rows = Sequence[tuple[tuple[str, ...], Any]]


class Collector:
    """Given to a registry; measures when it is asked. `measure` gives None where the database is away."""

    def __init__(self, measure: Callable[[], Measures | None]) -> None:
        self._measure = measure

    def collect(self) -> Iterator[Metric]:
        found = self._measure()
        yield _gauge("build_info", "This program.", [((program_version(), known()[-1], platform.python_version()), 1)],
                     "version", "schema", "python")  # fmt: skip
        yield _gauge("database_up", "Whether the catalogue answered.", [((), found is not None)])
        if found is not None:
            yield from _of(found)


def render(measure: Callable[[], Measures | None]) -> bytes:
    """Give the text of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Described(measure))
    return generate_latest(registry)


class _Described(Collector):
    def describe(self) -> list[Metric]:
        """Nothing is measured at the registration."""
        return []


def _of(found: Measures) -> Iterator[Metric]:
    yield from _sources(found)
    yield from _queue(found)
    yield from _totals(found)
    yield from _archive(found)
    yield from _machines(found)


def _sources(found: Measures) -> Iterator[Metric]:
    watched = [((one.slug, one.spider), one) for one in found.sources]
    active = [(key, one) for key, one in watched if one.active]
    label = ("source", "spider")
    yield _gauge("sources", "Watched sources, by whether they are visited.",
                 [(("active",), len(active)), (("paused",), len(watched) - len(active))], "state")  # fmt: skip
    yield _gauge(
        "source_last_success_timestamp_seconds",
        "When the last run of a source ended that brought something.",
        [(key, one.success_at.timestamp()) for key, one in watched if one.success_at],
        *label,
    )
    yield _gauge(
        "source_freshness_lag_seconds",
        "Since when the oldest due visit of a source is not served by a run that brought something; 0: none is owed.",
        [(key, _since(one.owed_since, found.at) or 0) for key, one in active],
        *label,
    )
    yield _gauge(
        "source_silent_after_seconds",
        "After how long without a success a source counts as silent.",
        [
            (key, silent_after(one, found.at, found.silent_hours).total_seconds())
            for key, one in active
            if one.schedule is not None
        ],
        *label,
    )
    yield _gauge("gaps", "Ids that the last runs of all sources found missing.",
                 [((), sum(one.gaps for one in found.sources))])  # fmt: skip
    hosts = Counter((one.fetcher, one.verdict) for one in found.walls)
    yield _gauge("walled_hosts", "Hosts that refused us lately, by who asked and what their answers showed.",
                 sorted(hosts.items()), "fetcher", "verdict")  # fmt: skip


def _queue(found: Measures) -> Iterator[Metric]:
    queue = found.queue
    states = {"due": 0, "running": 0, **queue.open}
    yield _gauge("visits_open", "Visits that are due or being made.", _by(states), "state")
    yield _gauge("visit_oldest_due_seconds", "Since when the oldest visit is due that may begin; 0: none.",
                 [((), _since(queue.oldest_due_at, found.at) or 0)])  # fmt: skip
    lag = Metric(
        _PREFIX + "visit_lag_seconds",
        "How late visits began: quantiles of the last hour, sum and count of all that are over.",
        "summary",
    )
    for quantile, value in (("0.5", queue.lag_p50_seconds), ("0.95", queue.lag_p95_seconds)):
        lag.add_sample(lag.name, {"quantile": quantile}, float("nan") if value is None else value)
    lag.add_sample(lag.name + "_sum", {}, found.totals.get(("visit_lag_seconds", ""), 0))
    lag.add_sample(lag.name + "_count", {}, found.totals.get(("visits_begun", ""), 0))
    yield lag
    jobs = {"todo": 0, "doing": 0, "failed": 0, **queue.jobs}
    yield _gauge(
        "queue_jobs", "Jobs of the queue; of those that are over, the last 10,000 jobs' ones.", _by(jobs), "status"
    )


def _totals(found: Measures) -> Iterator[Metric]:
    def total(name: str, about: str, of: str, label: str | None = None, *always: str) -> Metric:
        values = dict.fromkeys(always, 0) | {key[1]: value for key, value in found.totals.items() if key[0] == of}
        rows: _Rows = _by(values) if label else [((), values.get("", 0))]
        return _counter(name, about, rows, *([label] if label else []))

    ends = ("complete", "partial", "refused", "failed")
    yield total("visits", "Visits that are over, by what came of them.", "visits", "outcome", *ends, "missed", "parked")
    yield total("visit_retries", "Attempts of visits after the first.", "retries")
    yield total("runs", "Runs that ended, by outcome.", "runs", "outcome", *ends)
    yield total("captures", "Captures of the runs that ended, by how they ended.", "captures", "state",
                "captured", "refused", "truncated", "failed")  # fmt: skip
    yield total("captures_refused", "Refused captures, by what the answer was.", "refused", "kind", "blocked", "challenge",
                "login_wall", "robots", "status")  # fmt: skip
    yield total("bytes", "Bytes of WARCs written.", "bytes")
    yield total("posts", "Posts read, seen before or not.", "posts")
    yield total("media", "Media that pages named.", "media")
    yield total("revisits", "Payloads that were equal to an earlier one.", "revisits")
    events = {key[1]: value for key, value in found.totals.items() if key[0] == "events"}
    failures = {"held_back": events.get("held back", 0), "quarantined": events.get("quarantined", 0)}
    yield _counter("upload_failures", "WARCs that the store did not take as they are.", _by(failures), "kind")
    yield _counter("warcs_preserved", "WARCs whose copy in the store was read back and is equal.",
                   [((), events.get("preserved", 0))])  # fmt: skip
    yield total("verify_failures", "Claims that failed in all runs of `osint verify --all`.", "verify_failures")
    yield _counter("verifications", "Runs of `osint verify --all` that came to their end.",
                   [((), events.get("verified", 0))])  # fmt: skip
    yield total("recoveries", "Files and runs that were mended after a crash.", "recovered")


def _archive(found: Measures) -> Iterator[Metric]:
    states: dict[str, int] = {"open": 0, "sealed": 0, "uploaded": 0, "torn": 0}
    states |= {one.state: one.warcs for one in found.waiting}
    yield _gauge("warc_files", "WARCs that are not preserved yet, by state.", _by(states), "state")
    yield _gauge("held_back", "WARCs that wait for a person.", [((), found.held_back)])
    if found.last_preserved_at:
        yield _gauge("last_preserved_timestamp_seconds", "When a WARC was last preserved.",
                     [((), found.last_preserved_at.timestamp())])  # fmt: skip
    replays = found.replays
    good = replays.checked - replays.bad - replays.unsteady
    checks = {"good": good, "bad": replays.bad, "unsteady": replays.unsteady}
    yield _gauge("replay_checks", "Captures whose replay was checked in the last day, by what the newest check came to.",
                 _by(checks), "result")  # fmt: skip
    yield _gauge("database_bytes", "Size of the catalogue.", [((), found.database_bytes)])
    yield _gauge("alerts_open", "Alerts that have not ended.",
                 [((one.rule, one.severity), one.count) for one in found.alarms], "rule", "severity")  # fmt: skip


def _machines(found: Measures) -> Iterator[Metric]:
    def each(name: str, about: str, value: Callable[[Machine], float | None]) -> Metric:
        rows = [((one.name,), one_value) for one in found.machines if (one_value := value(one)) is not None]
        return _gauge(name, about, rows, "machine")

    at = found.at
    yield each("machines_seen_seconds", "How long ago a machine's worker was seen; none that was stopped in order.",
               lambda one: None if one.said.stopped else _since(one.seen_at, at))  # fmt: skip
    yield each("machine_running", "Hosts that a machine crawls now.", lambda one: len(one.said.running))
    yield each("machine_concurrency", "Hosts that it may crawl at once.", lambda one: one.said.concurrency)
    yield each(
        "spool_waiting_bytes", "What waits in its spool for the store.", lambda one: one.said.spool_waiting_bytes
    )
    yield each("spool_waiting_warcs", "Sealed WARCs that wait.", lambda one: one.said.spool_waiting_warcs)
    yield each("spool_oldest_seconds", "How long the oldest of them has waited; 0: none does.",
               lambda one: _since(one.said.spool_oldest_at, at) or 0)  # fmt: skip
    yield each("spool_torn_files", "Pieces that were cut off WARCs after a crash.", lambda one: one.said.torn_files)
    yield each("disk_free_bytes", "Free space of the spool's disk.", lambda one: one.said.disk_free_bytes)
    yield each("disk_bytes", "Size of the spool's disk.", lambda one: one.said.disk_bytes)
    yield each("upload_failing_seconds", "How long uploads have failed; 0: they do not.",
               lambda one: _since(one.said.upload_failing_since, at) or 0)  # fmt: skip
    yield each("last_upload_timestamp_seconds", "When an upload last took all that waited.",
               lambda one: one.said.last_upload_at.timestamp() if one.said.last_upload_at else None)  # fmt: skip
    yield each("clock_offset_seconds", "How far its clock is ahead.", lambda one: one.said.clock.offset_seconds)


def _gauge(name: str, about: str, rows: _Rows, *labels: str) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, about, labels=labels)
    for key, value in rows:
        family.add_metric(key, float(value))
    return family


def _counter(name: str, about: str, rows: _Rows, *labels: str) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, about, labels=labels)
    for key, value in rows:
        family.add_metric(key, float(value))
    return family


def _by(values: Mapping[str, int]) -> _Rows:
    return [((key,), value) for key, value in sorted(values.items())]


def _since(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max(0.0, (now - moment).total_seconds())
