"""Sums that only grow, out of what ended: kept up to a moment, so that nobody adds up years at each question."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects.postgresql import insert

from storage.schema import counted, totals

Totals = Mapping[tuple[str, str], int]
"""For a name and a label: runs and visits by outcome, captures by state, refusals by kind, events by kind..."""

LATE = timedelta(hours=3)  # a run may be told this long after its end (a database that was away) and is still counted
EVERY = timedelta(minutes=20)
_LOCK = 7421006  # the advisory lock that lets one process count at a time
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
# OFFSET 0: captures are looked up run by run, however many runs there are; the table is never read through
_SUMS = """
WITH ended AS MATERIALIZED (SELECT id, outcome, captured, refused, truncated, failed, bytes, posts, media, revisits, "similar"
    FROM runs WHERE ended_at > :after AND ended_at <= :until),
over AS MATERIALIZED (SELECT state, outcome, attempt, due_at, started_at
    FROM visits WHERE ended_at > :after AND ended_at <= :until),
told AS MATERIALIZED (SELECT kind, detail FROM events WHERE id > :event_after AND id <= :event_until)
SELECT 'runs', coalesce(outcome, 'unknown'), count(*) FROM ended GROUP BY outcome
UNION ALL SELECT each.name, each.label, sum(each.value) FROM ended, LATERAL (VALUES
    ('captures', 'captured', captured), ('captures', 'refused', refused), ('captures', 'truncated', truncated),
    ('captures', 'failed', failed), ('bytes', '', bytes), ('posts', '', posts), ('media', '', media),
    ('revisits', '', revisits), ('similar', '', "similar")) AS each (name, label, value) GROUP BY each.name, each.label
UNION ALL SELECT 'refused', coalesce(verdict, CASE WHEN reason = 'robots.txt' THEN 'robots'
    WHEN status IN (401, 403, 407, 429, 451, 999) THEN 'status' ELSE 'other' END), count(*) FROM ended, LATERAL
    (SELECT verdict, reason, status FROM captures WHERE run_id = ended.id AND state = 'refused' OFFSET 0) AS answered
    WHERE refused > 0 GROUP BY 2
UNION ALL SELECT 'visits', CASE state WHEN 'done' THEN coalesce(outcome, 'unknown') ELSE state END AS came_to, count(*)
    FROM over GROUP BY came_to
UNION ALL SELECT each.name, '', sum(each.value) FROM over, LATERAL (VALUES ('retries', greatest(attempt - 1, 0)),
    ('visits_begun', 1), ('visit_lag_seconds', greatest(0, extract(epoch FROM started_at - due_at)))
    ) AS each (name, value) WHERE started_at IS NOT NULL GROUP BY each.name
UNION ALL SELECT 'events', kind, count(*) FROM told GROUP BY kind
UNION ALL SELECT 'verify_failures', '', sum((detail ->> 'failed')::bigint) FROM told WHERE kind = 'verified'
UNION ALL SELECT 'recovered', '', sum((detail ->> 'mended')::bigint) FROM told WHERE kind = 'recovered'
"""


@dataclass(frozen=True, slots=True)
class _Upto:
    at: datetime
    event_id: int


def read_totals(connection: Connection) -> dict[tuple[str, str], int]:
    """Give what is kept and what came since, in one snapshot if the caller's transaction is one."""
    found = {(row.name, row.label): int(row.value) for row in connection.execute(select(totals))}
    since = _sums(connection, _upto(connection), None)
    return {key: found.get(key, 0) + since.get(key, 0) for key in found.keys() | since.keys()}


def count_up(connection: Connection, now: datetime) -> bool:
    """Add what ended meanwhile to what is kept; False where it is too early, or another process is at it."""
    if not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}):
        return False
    upto = _upto(connection)
    if now - upto.at < EVERY + LATE:
        return False
    last = connection.scalar(text("SELECT coalesce(max(id), 0) FROM events")) or 0
    until = _Upto(now - LATE, max(last, upto.event_id))
    for (name, label), value in _sums(connection, upto, until).items():
        added = insert(totals).values(name=name, label=label, value=value)
        grown = {"value": totals.c.value + added.excluded.value}
        connection.execute(added.on_conflict_do_update(index_elements=["name", "label"], set_=grown))
    connection.execute(counted.delete())
    connection.execute(counted.insert().values(upto=until.at, event_id=until.event_id))
    return True


def _upto(connection: Connection) -> _Upto:
    row = connection.execute(select(counted)).one_or_none()
    return _Upto(row.upto, row.event_id) if row else _Upto(_NEVER, 0)


def _sums(connection: Connection, upto: _Upto, until: _Upto | None) -> dict[tuple[str, str], int]:
    most = until or _Upto(datetime.max.replace(tzinfo=UTC), (1 << 63) - 1)
    between = {"after": upto.at, "until": most.at, "event_after": upto.event_id, "event_until": most.event_id}
    return {(row[0], row[1]): int(row[2] or 0) for row in connection.execute(text(_SUMS), between)}
