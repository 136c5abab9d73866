"""How sources are watched: schedule, limits, labels; written by people, kept in signed snapshots."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from storage import events
from storage.catalog import Catalog
from storage.rows import SourceRow
from storage.schema import due, sources, watches
from storage.sources import ensure_sources


class CatchUp(StrEnum):
    """What becomes of visits that were due while nobody worked."""

    NONE = "none"  # they are missed, and said to be
    ONCE = "once"  # the last one is made up for, the others are missed
    ALL = "all"  # all are made up for, oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRow:
    """How a source is watched. Times are aware UTC; `schedule` is cron of five fields in `timezone`, None: only when asked.

    `backfill_pages`: how many pages of older history a visit may add. A limit of None is the setting's. `identity` is the
    name of a login for its pages in the browser.
    """

    source_id: UUID
    added_at: datetime
    changed_at: datetime
    name: str | None = None
    schedule: str | None = None
    timezone: str = "UTC"
    jitter_seconds: int = 0
    catch_up: CatchUp = CatchUp.ONCE
    priority: int = 0
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    limit_pages: int | None = None
    limit_bytes: int | None = None
    limit_seconds: int | None = None
    backfill_pages: int | None = None
    identity: str | None = None
    paused_at: datetime | None = None
    paused_why: str | None = None
    removed_at: datetime | None = None

    @property
    def active(self) -> bool:
        """Whether its schedule holds now."""
        return self.paused_at is None and self.removed_at is None


@dataclass(frozen=True, slots=True)
class Watched:
    """A source with how it is watched."""

    source: SourceRow
    watch: WatchRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A watched source as it is to be, and the event that tells of it.

    `due_at` None: it is not due by its schedule. `keeps_due`: when it is due stays as it is.
    """

    source: SourceRow
    watch: WatchRow
    event: str
    detail: Mapping[str, Any]
    due_at: datetime | None = None
    keeps_due: bool = False


def put_changes(catalog: Catalog, changes: Sequence[Change]) -> list[Watched]:
    """Write changes with their events as a whole or not at all; a source that is new gets a slug that is free.

    Returns what was written, in the same order.
    """
    if not changes:
        return []
    with catalog.begin() as connection:
        stored = ensure_sources(connection, [change.source for change in changes])
        made = [_named(change, there) for change, there in zip(changes, stored, strict=True)]
        for one, there in zip(made, stored, strict=True):
            if one.source != there:
                values = asdict(one.source)
                connection.execute(update(sources).where(sources.c.id == there.id).values(values))
        _put_watches(connection, [one.watch for one in made])
        dues = {one.source.id: change.due_at for one, change in zip(made, changes, strict=True) if not change.keeps_due}
        put_dues(connection, dues)
        tellings = [
            events.Telling(change.event, one.source.slug, None, change.detail)
            for one, change in zip(made, changes, strict=True)
        ]
        events.append_all(connection, tellings)
    return made


def _named(change: Change, there: SourceRow) -> Watched:
    """Give a change the id and the slug that its source has."""
    source = replace(change.source, id=there.id, slug=there.slug, created_at=there.created_at)
    return Watched(source, replace(change.watch, source_id=there.id))


def put_watch(catalog: Catalog, row: WatchRow) -> None:
    """Write how a source is watched, whether or not it was before."""
    with catalog.begin() as connection:
        _put_watches(connection, [row])


def put_due(catalog: Catalog, source_id: UUID, at: datetime | None) -> None:
    """Write when a source is due next; None: no more."""
    with catalog.begin() as connection:
        put_dues(connection, {source_id: at})


def _put_watches(connection: Connection, rows: Sequence[WatchRow]) -> None:
    written = insert(watches)
    same = {column.name: written.excluded[column.name] for column in watches.columns}
    connection.execute(
        written.on_conflict_do_update(index_elements=["source_id"], set_=same), [asdict(row) for row in rows]
    )


def put_dues(connection: Connection, at: Mapping[UUID, datetime | None]) -> None:
    """Write when sources are due next; None: no more."""
    if ended := [source_id for source_id, moment in at.items() if moment is None]:
        connection.execute(delete(due).where(due.c.source_id.in_(ended)))
    if rows := [{"source_id": source_id, "at": moment} for source_id, moment in at.items() if moment is not None]:
        written = insert(due)
        same = {"at": written.excluded["at"]}
        connection.execute(written.on_conflict_do_update(index_elements=["source_id"], set_=same), rows)


def list_watched(catalog: Catalog, *, removed: bool = False) -> list[Watched]:
    """List watched sources by slug; those that were removed only if asked for."""
    query = select(sources, watches).join(watches, watches.c.source_id == sources.c.id).order_by(sources.c.slug)
    if not removed:
        query = query.where(watches.c.removed_at.is_(None))
    with catalog.begin() as connection:
        return [watched_from(row) for row in connection.execute(query)]


def one_watched(catalog: Catalog, source_id: UUID) -> Watched | None:
    """Find a watched source, removed or not."""
    query = select(sources, watches).join(watches, watches.c.source_id == sources.c.id)
    with catalog.begin() as connection:
        row = connection.execute(query.where(sources.c.id == source_id)).one_or_none()
    return None if row is None else watched_from(row)


def pause(connection: Connection, source_id: UUID, at: datetime, why: str) -> None:
    """Pause a watched source."""
    changed = {"paused_at": at, "paused_why": why, "changed_at": at}
    connection.execute(update(watches).where(watches.c.source_id == source_id).values(changed))


def watched_from(row: Any) -> Watched:
    """Make one of a row that holds the columns of both tables."""
    plain = row._mapping
    source = SourceRow(**{column.name: plain[column] for column in sources.columns})
    return Watched(source, watch_from({column.name: plain[column] for column in watches.columns}))


def watch_from(values: Mapping[str, Any]) -> WatchRow:
    """Make a row of its plain values."""
    lists = {name: tuple(values[name]) for name in ("languages", "tags")}
    return WatchRow(**{**values, **lists, "catch_up": CatchUp(values["catch_up"])})
