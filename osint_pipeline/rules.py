"""What is worth a person's attention: each rule with its severity, its threshold, and the sentence that it says.

A sentence holds figures, slugs, hosts and machine names; nothing that a page or a server said.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from uuid import UUID

from croniter import CroniterError
from sqlalchemy import Connection, text

from osint_pipeline.machine import Machine
from osint_pipeline.measures import REPLAY_WINDOW, Measures, SourceHealth, late_warcs
from osint_pipeline.schedule import times
from settings.service import Service
from storage.alerting import Severity
from storage.replays import ReplaysOfSource, bad_replays

INTERVALS = 3  # a source is silent after so many of its own
FORGOTTEN = timedelta(days=7)  # a machine that has been gone for longer is not coming back
_DAY = timedelta(days=1)
_RUNS_OF_SOURCE = 10
_LAYOUT = """
SELECT wanted.id, found.count FROM unnest(CAST(:runs AS uuid[])) AS wanted (id), LATERAL (SELECT count(*) FROM captures
    WHERE run_id = wanted.id AND state = 'failed' AND reason LIKE 'layout changed%') found WHERE found.count > 0
"""
_TRIED = """
SELECT last.source_id, last.id, last.captured + last.truncated + last.failed + last.refused, last.refused
FROM unnest(CAST(:sources AS uuid[])) AS wanted (id), LATERAL (SELECT * FROM runs WHERE source_id = wanted.id
    AND ended_at > :since ORDER BY started_at DESC LIMIT :most) last ORDER BY last.started_at DESC
"""
_REFUSED = """
SELECT wanted.id, found.count FROM unnest(CAST(:runs AS uuid[])) AS wanted (id), LATERAL (SELECT count(*) FROM captures
    WHERE run_id = wanted.id AND state = 'refused' AND reason IS DISTINCT FROM 'robots.txt') found WHERE found.count > 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the rules look at: the measures, and what only the alerts ask of the catalogue."""

    measures: Measures
    layouts: Mapping[UUID, int]  # captures of a source's last run whose layout was not known, by run
    hosts: Mapping[str, tuple[int, int]]  # the last captures of a host: how many, and how many were refused
    late_warcs: int
    late_since: datetime | None
    replays: tuple[ReplaysOfSource, ...]  # of the last day, of sources that have bad ones

    @property
    def now(self) -> datetime:
        """The moment that all of it is measured at."""
        return self.measures.at

    @property
    def active(self) -> tuple[SourceHealth, ...]:
        """The sources that are not paused."""
        return tuple(one for one in self.measures.sources if one.active)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines that were seen in the last days."""
        return tuple(one for one in self.measures.machines if self.now - one.seen_at < FORGOTTEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What a rule found: whose trouble it is, and the sentence."""

    subject: str
    said: str
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`setting` names the field of the settings that the rule's threshold stands in; None: it has none."""

    name: str
    severity: Severity
    about: str
    setting: str | None
    find: Callable[[Facts, Service], Iterator[Trouble]]


def gather(connection: Connection, measures: Measures, service: Service) -> Facts:
    """Ask the catalogue what the rules need besides the measures; over indexes, of last runs and one day."""
    failed = [one.run for one in measures.sources if one.active and one.run and one.failed]
    late, since = late_warcs(connection, measures.at - timedelta(hours=service.alert_unstamped_hours))
    layouts = {row[0]: row[1] for row in connection.execute(text(_LAYOUT), {"runs": failed})} if failed else {}
    hosts = _hosts(connection, measures, service.alert_block_captures)
    replays = tuple(bad_replays(connection, measures.at - REPLAY_WINDOW))
    return Facts(measures=measures, layouts=layouts, hosts=hosts, late_warcs=late, late_since=since, replays=replays)


def _hosts(connection: Connection, measures: Measures, wanted: int) -> dict[str, tuple[int, int]]:
    """Add up the last captures of each host, run by run, newest first, until there are enough."""
    host_of = {one.id: one.host for one in measures.sources if one.active}
    asked = {"sources": list(host_of), "since": measures.at - _DAY, "most": _RUNS_OF_SOURCE}
    tried = [tuple(row) for row in connection.execute(text(_TRIED), asked)]
    refusing = [run for _, run, _, refused in tried if refused]
    refused_of: dict[UUID, int] = {}
    if refusing:
        refused_of = {row[0]: row[1] for row in connection.execute(text(_REFUSED), {"runs": refusing})}
    found: dict[str, tuple[int, int]] = {}
    for source, run, count, _ in tried:
        total, refused = found.get(host_of[source], (0, 0))
        if total < wanted:
            found[host_of[source]] = (total + count, refused + refused_of.get(run, 0))
    return found


@lru_cache(maxsize=10_000)
def interval_seconds(schedule: str, timezone: str, day: datetime) -> float:
    """Give the longest pause between the next visits of a schedule, seen from a day; 0 for one that cannot be used."""
    try:
        coming = list(islice(times(schedule, timezone, day), 5))
    except (CroniterError, ValueError, KeyError, OSError):  # written by hand: it must not silence the other sources
        return 0.0
    return max((later - earlier).total_seconds() for earlier, later in pairwise(coming))


def silent_after(source: SourceHealth, now: datetime, hours: float) -> timedelta:
    """Tell after how long without a success a source is silent."""
    if source.schedule is None:
        return timedelta.max
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    interval = interval_seconds(source.schedule, source.timezone, day)
    return max(timedelta(hours=hours), timedelta(seconds=INTERVALS * interval))


def is_silent(source: SourceHealth, now: datetime, hours: float) -> bool:
    """Tell whether an active source has brought nothing for too long; adding or changing it begins the time anew."""
    since = max(one for one in (source.success_at, source.added_at, source.changed_at) if one)
    return source.active and now - since > silent_after(source, now, hours)


def _silent(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.active:
        if is_silent(one, facts.now, service.alert_silent_hours):
            last = (
                f"the last success was {span(facts.now - one.success_at)} ago" if one.success_at else "it never had one"
            )
            yield Trouble(subject=one.slug, said=f"source {one.slug} is silent: {last}")


def _layout(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.active:
        if count := facts.layouts.get(one.run) if one.run else None:
            said = (
                f"the layout of {one.slug} changed: {count} pages of its last run could not be read; they are recorded"
            )
            yield Trouble(subject=one.slug, said=said, detail={"run": str(one.run)})


def _blocked(facts: Facts, service: Service) -> Iterator[Trouble]:
    for host, (total, refused) in facts.hosts.items():
        if total >= service.alert_block_captures and refused / total >= service.alert_block_share:
            yield Trouble(subject=host, said=f"{host} refused {refused} of the last {total} captures")


def _spool_old(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.machines:
        oldest = one.said.spool_oldest_at
        if oldest and facts.now - oldest > timedelta(hours=service.alert_spool_hours):
            said = f"a WARC has waited in the spool of {one.name} for {span(facts.now - oldest)}"
            yield Trouble(subject=one.name, said=said)


def _store(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.machines:
        since = one.said.upload_failing_since
        if since and facts.now - since >= timedelta(seconds=service.alert_store_seconds):
            yield Trouble(subject=one.name, said=f"uploads from {one.name} have failed for {span(facts.now - since)}")
    if count := facts.measures.held_back:
        said = f"{count} WARCs are held back or in quarantine and wait for a person; see `osint spool`"
        yield Trouble(subject="held back", said=said)


def _unstamped(facts: Facts, service: Service) -> Iterator[Trouble]:
    if facts.late_warcs and facts.late_since:
        waited = span(facts.now - facts.late_since)
        said = f"{facts.late_warcs} sealed WARCs are not preserved yet, the oldest after {waited}"
        yield Trouble(subject="archive", said=said)


def _disk(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.machines:
        free, whole = one.said.disk_free_bytes, one.said.disk_bytes
        if free is not None and whole and free < min(service.alert_disk_free_bytes, whole // 10):
            said = f"the disk of {one.name} has {free / 1e9:.1f} GB left of {whole / 1e9:.1f} GB"
            yield Trouble(subject=one.name, said=said)


def _nothing(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.active:
        if one.run and one.wanted and not one.captured:
            said = f"the last run of {one.slug} captured nothing of {one.wanted} pages"
            yield Trouble(subject=one.slug, said=said, detail={"run": str(one.run)})


def _parked(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.active:
        if one.parked:
            yield Trouble(subject=one.slug, said=f"a visit of {one.slug} was given up after its last attempt")


def _gone(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.machines:
        away = facts.now - one.seen_at
        if not one.said.stopped and away > timedelta(seconds=service.alert_machine_seconds):
            yield Trouble(subject=one.name, said=f"the worker of {one.name} has not been seen for {span(away)}")


def _clock(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.machines:
        offset = one.said.clock.offset_seconds
        if offset is not None and abs(offset) >= service.alert_clock_seconds:
            where = "ahead" if offset > 0 else "behind"
            yield Trouble(subject=one.name, said=f"the clock of {one.name} is {abs(offset):.2f} s {where}")


def _late(facts: Facts, service: Service) -> Iterator[Trouble]:
    limit, oldest = timedelta(seconds=service.alert_late_seconds), facts.measures.queue.oldest_due_at
    if oldest and facts.now - oldest > limit:
        due = facts.measures.queue.open.get("due", 0)
        said = f"{due} visits are due and not begun, the oldest since {span(facts.now - oldest)}"
        yield Trouble(subject="queue", said=said)


def _replayed(facts: Facts, service: Service) -> Iterator[Trouble]:
    for one in facts.replays:
        if one.bad / one.checked >= service.alert_replay_share:
            said = f"{one.bad} of {one.checked} replayed captures of {one.slug} do not look as they did live"
            yield Trouble(subject=one.slug, said=said, detail={"captures": [str(capture) for capture in one.captures]})


_W, _C = Severity.WARNING, Severity.CRITICAL
RULES = (
    Rule(name="source-silent", severity=_W, setting="alert_silent_hours", find=_silent,
         about="a source has brought nothing for too long"),
    Rule(name="layout-changed", severity=_W, setting=None, find=_layout,
         about="pages of a source's last run could not be read"),
    Rule(name="block-rate", severity=_W, setting="alert_block_share", find=_blocked,
         about="a host refuses too many of its last captures"),
    Rule(name="spool-old", severity=_W, setting="alert_spool_hours", find=_spool_old,
         about="a WARC has waited too long in a machine's spool"),
    Rule(name="store-failing", severity=_C, setting="alert_store_seconds", find=_store,
         about="uploads fail, or WARCs are held back"),
    Rule(name="unstamped", severity=_W, setting="alert_unstamped_hours", find=_unstamped,
         about="sealed WARCs are not preserved"),
    Rule(name="disk-low", severity=_C, setting="alert_disk_free_bytes", find=_disk,
         about="a machine's disk is nearly full"),
    Rule(name="zero-capture-run", severity=_W, setting=None, find=_nothing,
         about="a source's last run captured nothing"),
    Rule(name="visit-parked", severity=_W, setting=None, find=_parked,
         about="a source's last visit was given up"),
    Rule(name="machine-gone", severity=_C, setting="alert_machine_seconds", find=_gone,
         about="a machine's worker is not seen any more"),
    Rule(name="clock-off", severity=_W, setting="alert_clock_seconds", find=_clock,
         about="a machine's clock is wrong"),
    Rule(name="queue-late", severity=_C, setting="alert_late_seconds", find=_late,
         about="visits are due and nobody makes them"),
    Rule(name="replay-bad", severity=_W, setting="alert_replay_share", find=_replayed,
         about="captures of a source do not look, offline, as they did live"),
)  # fmt: skip


def span(time: timedelta) -> str:
    """Write a span of time as people say it."""
    seconds = max(0.0, time.total_seconds())
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
