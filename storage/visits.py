"""Visits: one row for each time that a source is due, from when it falls due until it is accounted for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, func, literal_column, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from storage.catalog import Catalog
from storage.ids import new_id
from storage.schema import due, sources, visits, watches
from storage.watched import Watched, watched_from


class VisitState(StrEnum):
    """Where a visit is; the last four are ends."""

    DUE = "due"  # waits for a worker, from not_before on
    RUNNING = "running"
    DONE = "done"  # a run ended; its outcome stands beside
    MISSED = "missed"  # nobody worked, or another visit of the source did its work; the reason says which
    PARKED = "parked"  # its process died each time: a person looks at it
    CANCELLED = "cancelled"  # its source was paused or removed meanwhile


class Why(StrEnum):
    """What asked for a visit."""

    SCHEDULE = "schedule"
    NOW = "now"  # a person


_TO_NEXT = text("SELECT extract(epoch FROM min(at) - clock_timestamp()) FROM due WHERE at > clock_timestamp()")
_MORE_URGENT = text("""
UPDATE procrastinate_jobs AS j SET priority = v.priority FROM (
    SELECT host, max(priority) AS priority FROM visits WHERE state = 'due' AND not_before <= :now GROUP BY host
) AS v WHERE j.lock = 'host:' || v.host AND j.status = 'todo' AND j.priority < v.priority
""")
LOST_TIMES = 4  # how many more attempts are made where it was the machine that went away


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitRow:
    """One visit. `attempt` counts the processes that began it; `detail` names the runs of those that did not end it ("runs"),
    and how many of these died by themselves ("died") or with their machine ("lost").
    """

    source_id: UUID
    host: str
    due_at: datetime
    not_before: datetime
    why: Why = Why.SCHEDULE
    priority: int = 0
    state: VisitState = VisitState.DUE
    attempt: int = 0
    run_id: UUID | None = None
    worker: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=new_id)

    @property
    def earlier_runs(self) -> tuple[UUID, ...]:
        """The runs of earlier attempts, which did not come to their end."""
        return tuple(UUID(one) for one in self.detail.get("runs", ()))


@dataclass(frozen=True, slots=True)
class FallenDue:
    """A watched source whose time has come, and when that was."""

    watched: Watched
    at: datetime
    waits: bool  # an earlier visit of it still waits for a worker


def fallen_due(connection: Connection, now: datetime, limit: int) -> list[FallenDue]:
    """Take the sources that are due, oldest first, for this transaction alone; those that another has are left out."""
    waiting = select(visits.c.id).where(visits.c.source_id == due.c.source_id, visits.c.state == VisitState.DUE)
    query = (
        select(due.c.at.label("due_at"), waiting.exists().label("waits"), sources, watches)
        .join(watches, watches.c.source_id == due.c.source_id)
        .join(sources, sources.c.id == due.c.source_id)
        .where(due.c.at <= now, watches.c.paused_at.is_(None), watches.c.removed_at.is_(None))
        .order_by(due.c.at)
        .limit(limit)
        .with_for_update(of=due, skip_locked=True)
    )
    return [FallenDue(watched_from(row), row.due_at, row.waits) for row in connection.execute(query)]


def seconds_to_next(catalog: Catalog) -> float | None:
    """Tell how long it is until the next source falls due, by the database's clock; None where none does."""
    with catalog.begin() as connection:
        found = connection.scalar(_TO_NEXT)
    return None if found is None else float(found)


def add_visits(connection: Connection, rows: Sequence[VisitRow]) -> list[UUID]:
    """Write visits; one that is there already (same source, time and reason) is left as it is. Those that are new."""
    if not rows:
        return []
    made = insert(visits).values([_plain(row) for row in rows]).on_conflict_do_nothing()
    return list(connection.scalars(made.returning(visits.c.id)))


def ask_now(catalog: Catalog, wanted: Iterable[tuple[UUID, str]], *, priority: int, at: datetime) -> list[UUID]:
    """Ask for a visit of each source (id, host) as soon as a worker is free; the visits that were made."""
    rows = [
        VisitRow(source_id=source, host=host, due_at=at, not_before=at, why=Why.NOW, priority=priority)
        for source, host in wanted
    ]
    with catalog.begin() as connection:
        return add_visits(connection, rows)


def claim(catalog: Catalog, host: str, worker: str, now: datetime | None = None) -> VisitRow | None:
    """Take the next visit of a host for a worker, the most urgent first; None where nothing is due.

    To be called by whoever holds the host. What its source is set to is read after this. `now` is the database's where it
    is not given: the clocks of machines differ.
    """
    if now is None:
        now = database_now(catalog)
    wanted = (
        select(visits.c.id)
        .where(visits.c.host == host, visits.c.state == VisitState.DUE, visits.c.not_before <= now)
        .order_by(visits.c.priority.desc(), visits.c.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    taken = {"state": VisitState.RUNNING, "attempt": visits.c.attempt + 1, "worker": worker, "started_at": now}
    with catalog.begin() as connection:
        query = update(visits).where(visits.c.id == wanted.scalar_subquery()).values(taken).returning(visits)
        return _row(connection.execute(query).one_or_none())


def began(catalog: Catalog, visit: VisitRow, run_id: UUID) -> bool:
    """Note the run of a visit; False where the visit is no longer this attempt's."""
    return _change(catalog, visit, {"run_id": run_id})


def finish(
    catalog: Catalog,
    visit: VisitRow,
    state: VisitState,
    *,
    at: datetime,
    outcome: str | None = None,
    reason: str | None = None,
) -> bool:
    """End a visit; False where it is no longer this attempt's: then somebody else accounts for it."""
    return _change(catalog, visit, {"state": state, "ended_at": at, "outcome": outcome, "reason": reason})


def put_back(catalog: Catalog, visit: VisitRow, *, not_before: datetime, reason: str) -> bool:
    """Let a visit be gone on with later by whoever is free, from where its run ended."""
    return _change(catalog, visit, {**_again(visit), "not_before": not_before, "reason": reason})


def put_off(catalog: Catalog, host: str, seconds: float) -> None:
    """Let a host's visits wait: somebody has it, and nobody needs a place to wait for it."""
    later = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    waiting = update(visits).where(visits.c.host == host, visits.c.state == VisitState.DUE, visits.c.not_before < later)
    with catalog.begin() as connection:
        connection.execute(waiting.values(not_before=later))


def take_over(
    catalog: Catalog,
    host: str,
    now: datetime,
    *,
    most: int | None,
    why: str,
    died: bool,
    wait: timedelta = timedelta(),
    worker: str | None = None,
) -> list[VisitRow]:
    """Free a host's running visits whose process is gone, so that they are gone on with; as they are now.

    `died`: the process ended by itself, which counts against the visit: after `most` times it is parked. One whose machine
    went away is parked after LOST_TIMES as many losses. With `most` None it is our own trouble, and counts for nothing. To be called by whoever holds
    the host, or with the name of the `worker` whose process is known to have ended.
    """
    running = select(visits).where(visits.c.host == host, visits.c.state == VisitState.RUNNING).with_for_update()
    if worker is not None:
        running = running.where(visits.c.worker == worker)
    changed = []
    with catalog.begin() as connection:
        for found in connection.execute(running).all():
            visit = _whole(found)
            counted = {"died": int(died), "lost": int(not died)} if most is not None else {}
            values = {**_again(visit, **counted), "reason": why, "not_before": now + wait}
            deaths, losses = (values["detail"].get(name, 0) for name in ("died", "lost"))
            if most is not None and (deaths >= most or losses >= LOST_TIMES * most):
                values |= {"state": VisitState.PARKED, "ended_at": now}
                values["reason"] = (
                    f"parked after {visit.attempt} attempts, {deaths} of which ended their process: {why}"
                )
            connection.execute(update(visits).where(visits.c.id == visit.id).values(values))
            changed.append(replace(visit, **values))
    return changed


def running_of_machine(catalog: Catalog, machine: str) -> list[tuple[str, str]]:
    """List the hosts that workers of a machine visit, each with the worker's name."""
    of_machine = visits.c.worker.startswith(f"{machine}:", autoescape=True)
    query = select(visits.c.host, visits.c.worker).where(visits.c.state == VisitState.RUNNING, of_machine).distinct()
    with catalog.begin() as connection:
        return [(host, worker) for host, worker in connection.execute(query)]


def cancel_waiting(connection: Connection, source_id: UUID, now: datetime, reason: str) -> int:
    """Cancel the visits of a source that wait for a worker; how many."""
    values = {"state": VisitState.CANCELLED, "ended_at": now, "reason": reason}
    waiting = update(visits).where(visits.c.source_id == source_id, visits.c.state == VisitState.DUE)
    return connection.execute(waiting.values(values)).rowcount


@dataclass(frozen=True, slots=True)
class Begun:
    """A visit that goes on: for how long, and how long its source lets it."""

    running_seconds: float
    limit_seconds: int | None


def running_since(catalog: Catalog, host: str, worker: str) -> Begun | None:
    """Tell for how long a worker's visit of a host has been going on, by the database's clock."""
    query = (
        select(func.extract("epoch", func.clock_timestamp() - visits.c.started_at), watches.c.limit_seconds)
        .join(watches, watches.c.source_id == visits.c.source_id, isouter=True)
        .where(visits.c.host == host, visits.c.worker == worker, visits.c.state == VisitState.RUNNING)
        .order_by(visits.c.started_at)
        .limit(1)
    )
    with catalog.begin() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Begun(float(row[0]), row[1])


def database_now(catalog: Catalog) -> datetime:
    """Ask the database what time it is."""
    with catalog.begin() as connection:
        return _now(connection)


def _now(connection: Connection) -> datetime:
    now = connection.scalar(select(func.clock_timestamp()))
    assert isinstance(now, datetime)
    return now


def waiting_hosts(connection: Connection, now: datetime) -> list[tuple[str, int]]:
    """List hosts with visits to make, or with visits whose worker may be gone, each with its highest priority.

    Those that a job of the queue has or waits for already are left out; a job that waits becomes as urgent as its visits.
    """
    ready = or_(visits.c.not_before <= now, visits.c.state == VisitState.RUNNING)
    at_work = text(
        "NOT EXISTS (SELECT 1 FROM procrastinate_jobs AS j WHERE j.lock = 'host:' || visits.host AND j.status IN ('todo', 'doing'))"
    )
    connection.execute(_MORE_URGENT, {"now": now})
    query = (
        select(visits.c.host, func.max(visits.c.priority))
        .where(literal_column("visits.state IN ('due', 'running')"), ready, at_work)
        .group_by(visits.c.host)
        .order_by(func.max(visits.c.priority).desc(), func.min(visits.c.due_at))
    )
    return [(host, priority) for host, priority in connection.execute(query)]


def last_visits(catalog: Catalog, source_id: UUID, limit: int = 10) -> list[VisitRow]:
    """List a source's visits, newest first."""
    query = select(visits).where(visits.c.source_id == source_id).order_by(visits.c.due_at.desc(), visits.c.id.desc())
    with catalog.begin() as connection:
        return [_whole(row) for row in connection.execute(query.limit(limit))]


def forget_visits(catalog: Catalog, before: datetime, limit: int = 10_000) -> int:
    """Delete ended visits that were due before a time, the oldest first, parked ones never; how many."""
    ended = (VisitState.DONE, VisitState.MISSED, VisitState.CANCELLED)
    old: Select[Any] = (
        select(visits.c.source_id, visits.c.due_at, visits.c.why)
        .where(visits.c.due_at < before, visits.c.state.in_(ended))
        .order_by(visits.c.due_at)
        .limit(limit)
    )
    with catalog.begin() as connection:
        key = tuple_(visits.c.source_id, visits.c.due_at, visits.c.why)
        return connection.execute(visits.delete().where(key.in_(old))).rowcount


def _again(visit: VisitRow, **more: int) -> dict[str, Any]:
    """Give the values of a visit that is to be gone on with; `more` is added to the counts of its detail."""
    runs = [str(one) for one in visit.earlier_runs] + ([str(visit.run_id)] if visit.run_id else [])
    counts = {name: visit.detail.get(name, 0) + count for name, count in more.items()}
    detail = {**visit.detail, "runs": runs, **counts}
    return {"state": VisitState.DUE, "worker": None, "run_id": None, "detail": detail}


def _change(catalog: Catalog, visit: VisitRow, values: Mapping[str, Any]) -> bool:
    mine = (
        visits.c.id == visit.id,
        visits.c.state == VisitState.RUNNING,
        visits.c.attempt == visit.attempt,
        visits.c.worker == visit.worker,
    )
    with catalog.begin() as connection:
        return connection.execute(update(visits).where(*mine).values(values)).rowcount == 1


def _plain(row: VisitRow) -> dict[str, Any]:
    return {**asdict(row), "detail": dict(row.detail)}


def _row(found: Row[Any] | None) -> VisitRow | None:
    return None if found is None else _whole(found)


def _whole(found: Row[Any]) -> VisitRow:
    values = dict(found._mapping)
    return VisitRow(**{**values, "state": VisitState(values["state"]), "why": Why(values["why"])})
