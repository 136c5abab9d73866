"""How sources are watched: schedule, limits, labels; written by people, kept in signed snapshots."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from storage.catalog import Catalog
from storage.rows import SourceRow
from storage.schema import sources, watches


class CatchUp(StrEnum):
    """What becomes of visits that were due while nobody worked."""

    NONE = "none"  # they are missed, and said to be
    ONCE = "once"  # the last one is made up for, the others are missed
    ALL = "all"  # all are made up for, oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRow:
    """How a source is watched. Times are aware UTC; `schedule` is cron of five fields in `timezone`, None: only when asked.

    `backfill_pages`: how many pages of older history a visit may add. A limit of None is the setting's.
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


def put_watch(catalog: Catalog, row: WatchRow) -> None:
    """Write how a source is watched, whether or not it was before."""
    values = asdict(row)
    changed = insert(watches).values(values).on_conflict_do_update(index_elements=["source_id"], set_=values)
    with catalog.begin() as connection:
        connection.execute(changed)


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


def watched_from(row: Any) -> Watched:
    """Make one of a row that holds the columns of both tables."""
    plain = row._mapping
    source = SourceRow(**{column.name: plain[column] for column in sources.columns})
    return Watched(source, watch_from({column.name: plain[column] for column in watches.columns}))


def watch_from(values: Mapping[str, Any]) -> WatchRow:
    """Make a row of its plain values."""
    lists = {name: tuple(values[name]) for name in ("languages", "tags")}
    return WatchRow(**{**values, **lists, "catch_up": CatchUp(values["catch_up"])})
