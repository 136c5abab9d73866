"""When a watched source is due next, and what becomes of visits that were missed meanwhile."""

from datetime import datetime, timedelta

from osint_pipeline.schedule import next_due
from storage.catalog import Catalog
from storage.watched import CatchUp, WatchRow, put_due

_BACK = (timedelta(hours=2), timedelta(days=2), timedelta(days=40), timedelta(days=400))


def set_due(
    catalog: Catalog, watch: WatchRow, now: datetime, *, since: datetime | None = None, at_once: bool = False
) -> datetime | None:
    """Write when a source is due next, as due_at says; returns what was written."""
    at = due_at(watch, now, since=since, at_once=at_once)
    put_due(catalog, watch.source_id, at)
    return at


def due_at(watch: WatchRow, now: datetime, *, since: datetime | None = None, at_once: bool = False) -> datetime | None:
    """Tell when a source is due next; None where it is paused, removed, or visited only when asked.

    `since`: when it was last watched. What was due after it and was missed is made up for as catch_up says: the first of
    the missed times (ALL) or the last (ONCE) is given, and lies in the past. `at_once`: now, whatever the schedule.
    """
    if not watch.active or watch.schedule is None:
        return None
    if at_once:
        return now
    if since is not None and since < now:
        missed = _next(watch, since) if watch.catch_up is CatchUp.ALL else None
        missed = _last_missed(watch, since, now) if watch.catch_up is CatchUp.ONCE else missed
        if missed is not None and missed <= now:
            return missed
    return _next(watch, now)


def _last_missed(watch: WatchRow, since: datetime, now: datetime) -> datetime | None:
    """Find the last time that was due after one moment and not after another, from the end: a year has 500,000 minutes."""
    for back in (*_BACK, now - since):
        start = max(since, now - back)
        if (found := _next(watch, start)) <= now:
            while (later := _next(watch, found)) <= now:
                found = later
            return found
        if start == since:
            return None
    return None


def _next(watch: WatchRow, after: datetime) -> datetime:
    assert watch.schedule is not None
    return next_due(watch.schedule, watch.timezone, after, source=watch.source_id, jitter_seconds=watch.jitter_seconds)
