"""Turns what is due into visits, and says which hosts have some: the one place where a schedule becomes work."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from osint_pipeline.logs import logger
from osint_pipeline.schedule import missed, next_due
from osint_pipeline.source import host_of
from storage.catalog import Catalog
from storage.visits import FallenDue, VisitRow, VisitState, add_visits, database_now, fallen_due, waiting_hosts
from storage.watched import CatchUp, WatchRow, pause, put_dues

LATE = timedelta(seconds=90)  # a visit that is noticed later than this was missed while nobody worked
MOST_AT_ONCE = 1000  # sources looked at in one transaction
MOST_COUNTED = 3000  # visits that were missed; beyond it they are called "at least"
NOBODY, MERGED = "nobody worked", "merged into the visit before it, which still waited"
log = logger(__name__)


def tick(catalog: Catalog, now: datetime | None = None, *, catch_up_visits: int) -> list[tuple[str, int]]:
    """Write the visits that have fallen due; the hosts that need a worker, with their priorities.

    May run anywhere, at any time, several times at once: each due time becomes one visit. `now` is the database's where it
    is not given. A source whose schedule cannot be used is paused, with the reason; the others do not wait for it.
    """
    now = now or database_now(catalog)
    while True:
        with catalog.begin() as connection:
            fallen = fallen_due(connection, now, MOST_AT_ONCE)
            for one in fallen:
                try:
                    rows, following = visits_of(one, now, catch_up_visits), _following(one.watched.watch, now)
                except (ValueError, KeyError, OSError) as error:  # what croniter and zoneinfo raise
                    log.error("a schedule cannot be used", source=one.watched.source.slug, why=str(error))
                    pause(connection, one.watched.source.id, now, f"its schedule cannot be used: {error}")
                    rows, following = [], None
                add_visits(connection, rows)
                put_dues(connection, {one.watched.source.id: following})
            if len(fallen) < MOST_AT_ONCE:
                return waiting_hosts(connection, now)


def visits_of(fallen: FallenDue, now: datetime, catch_up_visits: int) -> list[VisitRow]:
    """Make the visits of a source whose time has come: those to be made, and one row for those that were missed."""
    watch = fallen.watched.watch
    times = [fallen.at]
    if watch.schedule:
        times += missed(
            watch.schedule,
            watch.timezone,
            fallen.at,
            now,
            source=watch.source_id,
            jitter_seconds=watch.jitter_seconds,
            most=MOST_COUNTED,
        )
    made = _to_be_made(times, watch.catch_up, now, catch_up_visits)
    lost = times[: len(times) - len(made)]
    rows = [_visit(fallen, at) for at in made]
    if fallen.waits and rows and watch.catch_up is not CatchUp.ALL:
        rows = [_missed(fallen, made, MERGED, now)]
    return [_missed(fallen, lost, NOBODY, now), *rows] if lost else rows


def _to_be_made(times: Sequence[datetime], catch_up: CatchUp, now: datetime, most: int) -> Sequence[datetime]:
    if catch_up is CatchUp.ALL:
        return times[-most:]
    if catch_up is CatchUp.NONE and now - times[-1] > LATE:
        return ()
    return times[-1:]


def _visit(fallen: FallenDue, at: datetime) -> VisitRow:
    source, watch = fallen.watched.source, fallen.watched.watch
    return VisitRow(source_id=source.id, host=host_of(source.url), due_at=at, not_before=at, priority=watch.priority)


def _missed(fallen: FallenDue, times: Sequence[datetime], why: str, now: datetime) -> VisitRow:
    """Account for due times that no visit of their own is made for, in one row: the first, how many, the last."""
    count = len(times)
    detail = {"count": count, "last": times[-1].isoformat(), "at_least": count >= MOST_COUNTED}
    return replace(_visit(fallen, times[0]), state=VisitState.MISSED, ended_at=now, reason=why, detail=detail)


def _following(watch: WatchRow, now: datetime) -> datetime | None:
    if watch.schedule is None:
        return None
    jitter = watch.jitter_seconds
    return next_due(watch.schedule, watch.timezone, now, source=watch.source_id, jitter_seconds=jitter)
