"""Replay checks in the catalogue: what they came to, which captures can be checked, and which were not yet."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, exists, select, text, true

from storage.catalog import Catalog
from storage.copying import storable_json
from storage.ids import new_id
from storage.rows import CaptureKind, WarcState
from storage.schema import captures, records, replays, warc_files

NAMED = 5  # bad captures of a source that are named
# `explains`: all that is low is as low between two replays
_COUNTS = """count(*), count(*) FILTER (WHERE bad AND NOT explained), count(*) FILTER (WHERE bad AND explained)"""
_NEWEST = """
SELECT DISTINCT ON (capture_id) capture_id, checked_at, bad,
    coalesce((detail #>> '{steadiness,explains}')::boolean, false) AS explained
FROM replays WHERE checked_at >= :since ORDER BY capture_id, checked_at DESC
"""
_BY_SOURCE = f"""
SELECT s.slug, {_COUNTS},
    (array_agg(newest.capture_id ORDER BY newest.checked_at DESC) FILTER (WHERE bad AND NOT explained))[1:{NAMED}]
FROM ({_NEWEST}) newest JOIN captures c ON c.id = newest.capture_id JOIN sources s ON s.id = c.source_id
GROUP BY s.slug HAVING bool_or(bad AND NOT explained) ORDER BY s.slug
"""
_RANDOM = 1 << 62  # the last bits of an id, behind its variant, are random (RFC 9562 5.7)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """One replay of one capture compared with what was seen live.

    `text_ratio` (0 to 1) and `picture_bits` (0 to 64) are None where there is nothing to compare. `asked` = `found` + `missing`
    counts addresses; `alike` of those found were answered by a record of a like address; `unasked` were recorded and not
    asked for. `score` (0 to 1) is the worst part; `bad`: it is below OSINT_REPLAY_WARN_SCORE.
    """

    capture_id: UUID
    checked_at: datetime
    browser: str
    text_ratio: float | None
    dom_equal: bool | None
    asked: int
    found: int
    alike: int
    missing: int
    unasked: int
    picture_bits: int | None
    score: float
    bad: bool
    detail: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=new_id)

    def to_json(self) -> dict[str, Any]:
        """Make the object that --json prints."""
        plain = asdict(self) | {
            "capture": str(self.capture_id),
            "checked_at": self.checked_at.astimezone(UTC).isoformat(),
        }
        del plain["capture_id"], plain["id"]
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedCapture:
    """A capture made by the browser."""

    id: UUID
    run_id: UUID
    url: str
    captured_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCounts:
    """The captures that were checked since a moment, by their newest check.

    `unsteady` are those below the threshold where two replays differ from each other as much; they are not among the `bad`.
    """

    checked: int = 0
    bad: int = 0
    unsteady: int = 0
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaysOfSource:
    """The captures of one source that were checked since a moment; `bad` as in ReplayCounts, the newest five of them named."""

    slug: str
    checked: int
    bad: int
    captures: tuple[UUID, ...]


def keep_replay(catalog: Catalog, row: ReplayRow) -> None:
    """Write a check down; the earlier ones of its capture stay."""
    with catalog.begin() as connection:
        connection.execute(replays.insert(), {**asdict(row), "detail": storable_json(row.detail)})


def last_replay(catalog: Catalog, wanted: Sequence[UUID]) -> ReplayRow | None:
    """Give the newest check of the newest of these captures that has one."""
    query = select(replays).where(replays.c.capture_id.in_(wanted)).order_by(replays.c.checked_at.desc()).limit(1)
    with catalog.begin() as connection:
        row = connection.execute(query).one_or_none()
    return ReplayRow(**row._mapping) if row else None


def rendered_captures(
    catalog: Catalog,
    *,
    ids: Sequence[UUID] | None = None,
    run: UUID | None = None,
    since: datetime | None = None,
    share: float = 1.0,
    unchecked: bool = False,
    preserved: bool = False,
    limit: int | None = None,
) -> list[RenderedCapture]:
    """List captures that were made by the browser and keep the DOM that it saw, oldest first; those that fit all that is given.

    `share` takes this share of all, the same ones each time: by the random half of their ids. `preserved`: those whose
    records any machine can read from the store. `limit` takes so many of them by chance: none that can never be checked
    stands before the others for ever.
    """
    conditions = [
        captures.c.kind == CaptureKind.RENDERED,
        exists().where(records.c.capture_id == captures.c.id, records.c.url.like("urn:dom:%")),
        captures.c.id.in_(ids) if ids is not None else true(),
        captures.c.run_id == run if run is not None else true(),
        captures.c.captured_at >= since if since is not None else true(),
        _not_checked() if unchecked else true(),
        _in_the_store() if preserved else true(),
    ]
    query = select(captures.c.id, captures.c.run_id, captures.c.url, captures.c.captured_at).where(*conditions)
    with catalog.begin() as connection:
        found = [RenderedCapture(**row._mapping) for row in connection.execute(query.order_by(captures.c.captured_at))]
    chosen = [one for one in found if one.id.int % _RANDOM < share * _RANDOM]
    return chosen if limit is None or limit >= len(chosen) else random.sample(chosen, limit)


def count_replays(connection: Connection, since: datetime) -> ReplayCounts:
    """Count the captures that were checked since a moment."""
    row = connection.execute(text(f"SELECT {_COUNTS}, max(checked_at) FROM ({_NEWEST}) newest"), {"since": since}).one()
    return ReplayCounts(checked=row[0], bad=row[1], unsteady=row[2], last_at=row[3])


def bad_replays(connection: Connection, since: datetime) -> list[ReplaysOfSource]:
    """Count them source by source, for those sources that have bad ones."""
    return [
        ReplaysOfSource(slug=row[0], checked=row[1], bad=row[2], captures=tuple(row[4]))
        for row in connection.execute(text(_BY_SOURCE), {"since": since})
    ]


def _not_checked() -> ColumnElement[bool]:
    return ~exists().where(replays.c.capture_id == captures.c.id)


def _in_the_store() -> ColumnElement[bool]:
    elsewhere = exists().where(
        records.c.capture_id == captures.c.id,
        records.c.warc == warc_files.c.name,
        warc_files.c.state != WarcState.PRESERVED,
    )
    return ~elsewhere
