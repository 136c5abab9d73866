"""How the archive is doing, measured at one moment: for `osint status`, /metrics and the alerts.

Each query walks an index over a bounded part: open visits, WARCs that wait, the last hour, the last run of each source.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, text

from osint_pipeline.machine import Machine
from osint_pipeline.source import host_of
from storage.catalog import Catalog
from storage.replays import ReplayCounts, count_replays
from storage.rows import WarcState
from storage.schema import SUCCESS, alerts, machines, warc_files
from storage.totals import Totals, count_up, read_totals
from storage.walls import Wall, walls_since

WINDOW = timedelta(hours=1)
REPLAY_WINDOW = timedelta(days=1)
LIMIT_SECONDS = 10  # of one query
_LAST_EVENTS, _LAST_JOBS = 10_000, 10_000

# the sum in ORDER BY keeps the planner from walking all sources' visits by time until it meets one of this source
_SOURCES = f"""
SELECT s.id, s.slug, s.url, s.spider, w.name, w.schedule, w.timezone, w.added_at, w.changed_at, w.paused_at,
    ok.ended_at AS success_at, last.id AS run, last.ended_at AS run_at, last.outcome, last.reason, last.wanted,
    last.captured, last.refused, last.failed, last.gaps, least(owed.due_at, next.at) AS owed_since,
    closed.state AS visit_state, closed.attempt
FROM watches w JOIN sources s ON s.id = w.source_id
LEFT JOIN due next ON next.source_id = s.id AND next.at <= :now
LEFT JOIN LATERAL (SELECT started_at, ended_at FROM runs WHERE source_id = s.id AND {SUCCESS}
    ORDER BY started_at DESC LIMIT 1) ok ON true
LEFT JOIN LATERAL (SELECT id, ended_at, outcome, reason, wanted, captured, refused, failed, gaps FROM runs
    WHERE source_id = s.id AND ended_at IS NOT NULL ORDER BY started_at DESC LIMIT 1) last ON true
LEFT JOIN LATERAL (SELECT due_at FROM visits WHERE source_id = s.id AND due_at <= :now AND state <> 'cancelled'
    AND why IN ('schedule', 'now') AND due_at > coalesce(ok.started_at, '-infinity')
    ORDER BY due_at + interval '0' LIMIT 1) owed ON true
LEFT JOIN LATERAL (SELECT state, attempt FROM visits WHERE source_id = s.id AND state IN ('done', 'parked')
    ORDER BY due_at DESC LIMIT 1) closed ON true
WHERE w.removed_at IS NULL ORDER BY s.slug
"""
_OPEN = """
SELECT state, count(*), min(due_at) FILTER (WHERE not_before <= :now) FROM visits
WHERE state IN ('due', 'running') GROUP BY state
"""
_LAG = """
SELECT count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY lag), percentile_disc(0.95) WITHIN GROUP (ORDER BY lag)
FROM (SELECT greatest(0, extract(epoch FROM started_at - due_at))::float AS lag FROM visits
    WHERE started_at > :since AND started_at <= :now ORDER BY started_at DESC LIMIT 100000) begun
"""
_RUNS = """
SELECT coalesce(outcome, 'unknown') AS outcome, count(*), sum(captured), sum(bytes) FROM runs
WHERE ended_at > :since AND ended_at <= :now GROUP BY 1
"""
_JOBS = """
SELECT status::text, count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing') GROUP BY status
UNION ALL SELECT status::text, count(*) FROM (SELECT status FROM procrastinate_jobs ORDER BY id DESC LIMIT :most) recent
WHERE status NOT IN ('todo', 'doing') GROUP BY status
"""
_WAITING = """
SELECT state, count(*), coalesce(sum(size_bytes), 0)::bigint, min(sealed_at) FROM warc_files
WHERE state <> 'preserved' GROUP BY state
"""
_HELD_BACK = """
SELECT count(*) FROM warc_files w WHERE state <> 'preserved' AND EXISTS
    (SELECT FROM events e WHERE e.subject = w.name AND e.kind IN ('held back', 'quarantined'))
"""
_PRESERVED = """
SELECT max(at) FROM (SELECT at, kind FROM events ORDER BY id DESC LIMIT :most) recent WHERE kind = 'preserved'
"""
_QUEUE_LATE = "SELECT min(due_at) FROM visits WHERE state = 'due' AND not_before <= :now"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHealth:
    """One watched source: its last run that brought something, its last run, and since when it owes us one.

    `owed_since` is the time of the first visit that was due after the last success began; None: nothing is owed.
    """

    id: UUID
    slug: str
    host: str
    spider: str
    name: str | None
    schedule: str | None
    timezone: str
    added_at: datetime
    changed_at: datetime
    paused_at: datetime | None
    success_at: datetime | None
    run: UUID | None
    run_at: datetime | None
    outcome: str | None
    reason: str | None
    wanted: int
    captured: int
    refused: int
    failed: int
    gaps: int
    owed_since: datetime | None
    parked: bool

    @property
    def active(self) -> bool:
        """Whether visits are to be made to it."""
        return self.paused_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The visits that are due or being made; how late they began in the last hour, in seconds; the queue's own jobs."""

    open: Mapping[str, int]
    oldest_due_at: datetime | None
    begun: int
    lag_p50_seconds: float | None
    lag_p95_seconds: float | None
    jobs: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The runs of one outcome that ended in the last hour."""

    outcome: str
    runs: int
    captured: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The WARCs of all machines that are not preserved, by state."""

    state: str
    warcs: int
    bytes: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """How many alerts of a rule are open."""

    rule: str
    severity: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """All of it, in one snapshot of the catalogue taken at `at`."""

    at: datetime
    silent_hours: float  # OSINT_ALERT_SILENT_HOURS
    sources: tuple[SourceHealth, ...]
    queue: Queue
    ended: tuple[Ended, ...]
    waiting: tuple[Waiting, ...]
    held_back: int
    last_preserved_at: datetime | None
    machines: tuple[Machine, ...]
    alarms: tuple[Alarm, ...]
    totals: Totals
    database_bytes: int
    schema: str
    replays: ReplayCounts  # of the last day
    walls: tuple[Wall, ...] = ()  # met within OSINT_WALL_HOURS, the last met first

    @property
    def spool_bytes(self) -> int:
        """What waits in all spools together."""
        return sum(one.bytes for one in self.waiting if one.state != WarcState.OPEN)

    @property
    def spool_warcs(self) -> int:
        """How many sealed WARCs wait."""
        return sum(one.warcs for one in self.waiting if one.state != WarcState.OPEN)

    @property
    def spool_oldest_at(self) -> datetime | None:
        """Since when the oldest of them waits."""
        return min((one.oldest_at for one in self.waiting if one.oldest_at), default=None)


def measure(
    catalog: Catalog, now: datetime | None = None, *, silent_hours: float = 24.0, wall_hours: float = 24.0
) -> Measures:
    """Look at everything once. Raises DatabaseUnavailable."""
    now = now or datetime.now(UTC)
    with catalog.begin() as connection:
        count_up(connection, now)
    with snapshot(catalog) as connection:
        return Measures(
            at=now,
            silent_hours=silent_hours,
            sources=read_sources(connection, now),
            queue=_queue(connection, now),
            ended=_ended(connection, now),
            waiting=_waiting(connection),
            held_back=connection.scalar(text(_HELD_BACK)) or 0,
            last_preserved_at=connection.scalar(text(_PRESERVED), {"most": _LAST_EVENTS}),
            machines=tuple(map(Machine.of, connection.execute(select(machines).order_by(machines.c.name)))),
            alarms=_alarms(connection),
            totals=read_totals(connection),
            database_bytes=connection.scalar(text("SELECT pg_database_size(current_database())")) or 0,
            schema=str(connection.scalar(text("SELECT max(version_num) FROM alembic_version"))),
            walls=tuple(walls_since(connection, now - timedelta(hours=wall_hours))),
            replays=count_replays(connection, now - REPLAY_WINDOW),
        )


@contextmanager
def snapshot(catalog: Catalog) -> Iterator[Connection]:
    """Open a transaction that sees one moment, writes nothing, and whose queries are given up after LIMIT_SECONDS."""
    with catalog.begin() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        connection.execute(text(f"SET LOCAL statement_timeout = '{LIMIT_SECONDS}s'"))
        connection.execute(
            text("SET LOCAL plan_cache_mode = force_custom_plan")
        )  # windows differ too much for one plan
        connection.execute(text("SET LOCAL jit = off"))  # it takes longer to compile than these take to run
        yield connection


def read_sources(connection: Connection, now: datetime) -> tuple[SourceHealth, ...]:
    """Look at each watched source that was not removed, by slug."""
    return tuple(_source(row._mapping) for row in connection.execute(text(_SOURCES), {"now": now}))


def _source(row: Mapping[Any, Any]) -> SourceHealth:
    plain: dict[str, Any] = {name: row[name] for name in _PLAIN}
    plain |= {name: int(row[name] or 0) for name in _COUNTS}
    return SourceHealth(**plain, host=host_of(row["url"]), parked=row["visit_state"] == "parked")


_COUNTS = ("wanted", "captured", "refused", "failed", "gaps")
_PLAIN = (
    "id", "slug", "spider", "name", "schedule", "timezone", "added_at", "changed_at", "paused_at", "success_at", "run",
    "run_at", "outcome", "reason", "owed_since",
)  # fmt: skip


def _queue(connection: Connection, now: datetime) -> Queue:
    by_state = {row[0]: row for row in connection.execute(text(_OPEN), {"now": now})}
    begun, median, high = connection.execute(text(_LAG), {"since": now - WINDOW, "now": now}).one()
    jobs = connection.execute(text(_JOBS), {"most": _LAST_JOBS})
    return Queue(
        open={state: row[1] for state, row in by_state.items()},
        oldest_due_at=by_state["due"][2] if "due" in by_state else None,
        begun=begun,
        lag_p50_seconds=median,
        lag_p95_seconds=high,
        jobs={row[0]: row[1] for row in jobs},
    )


def _ended(connection: Connection, now: datetime) -> tuple[Ended, ...]:
    found = connection.execute(text(_RUNS), {"since": now - WINDOW, "now": now})
    return tuple(Ended(outcome=row[0], runs=row[1], captured=int(row[2]), bytes=int(row[3])) for row in found)


def _waiting(connection: Connection) -> tuple[Waiting, ...]:
    found = connection.execute(text(_WAITING))
    return tuple(Waiting(state=row[0], warcs=row[1], bytes=row[2], oldest_at=row[3]) for row in found)


def _alarms(connection: Connection) -> tuple[Alarm, ...]:
    found = connection.execute(
        text(f"SELECT rule, severity, count(*) FROM {alerts.name} WHERE ended_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2")
    )
    return tuple(Alarm(rule=row[0], severity=row[1], count=row[2]) for row in found)


def late_warcs(connection: Connection, before: datetime) -> tuple[int, datetime | None]:
    """Count the WARCs that were sealed before a moment and are not preserved; when the oldest was."""
    waits = (warc_files.c.state != WarcState.PRESERVED) & (warc_files.c.sealed_at < before)
    found = list(connection.scalars(select(warc_files.c.sealed_at).where(waits).order_by(warc_files.c.sealed_at)))
    return len(found), found[0] if found else None
