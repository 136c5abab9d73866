"""How watched sources stand: when each is due, when it was last seen, what its visits came to."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text

from storage.catalog import Catalog

_STANDINGS = """
SELECT watches.source_id, due.at AS due_at, latest.started_at AS last_run_at, latest.outcome AS last_outcome,
    latest.ended_at IS NULL AND latest.started_at IS NOT NULL AS running, good.ended_at AS last_success_at
FROM watches
LEFT JOIN due ON due.source_id = watches.source_id
LEFT JOIN LATERAL (
    SELECT started_at, ended_at, outcome FROM runs WHERE source_id = watches.source_id ORDER BY started_at DESC LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT ended_at FROM runs WHERE source_id = watches.source_id AND outcome IN ('complete', 'partial')
    ORDER BY started_at DESC LIMIT 1
) AS good ON true
WHERE CAST(:source AS uuid) IS NULL OR watches.source_id = :source
"""
# a run that no visit asked for was made by hand
_LATEST = """
SELECT due_at, why, state, visits.attempt, run_id, coalesce(runs.started_at, visits.started_at) AS started_at,
    coalesce(runs.ended_at, visits.ended_at) AS ended_at, coalesce(visits.outcome, runs.outcome) AS outcome,
    coalesce(visits.reason, runs.reason) AS reason, runs.wanted, runs.captured, runs.posts, runs.gaps
FROM visits LEFT JOIN runs ON runs.id = visits.run_id WHERE visits.source_id = :source
UNION ALL
SELECT started_at, 'by hand', CASE WHEN ended_at IS NULL THEN 'running' ELSE 'done' END, attempt, id, started_at, ended_at,
    outcome, reason, wanted, captured, posts, gaps
FROM runs WHERE source_id = :source AND NOT EXISTS (SELECT FROM visits WHERE visits.run_id = runs.id)
ORDER BY 1 DESC LIMIT :limit
"""
_TOTALS = """
SELECT (SELECT count(*) FROM posts WHERE source_id = :source) AS posts,
    (SELECT count(*) FROM captures WHERE source_id = :source AND state = 'captured') AS captures,
    (SELECT count(*) FROM runs WHERE source_id = :source) AS runs,
    (SELECT coalesce(sum(bytes), 0)::bigint FROM runs WHERE source_id = :source) AS bytes
"""
_GAPS = """
SELECT first, last FROM gaps WHERE run_id = (
    SELECT id FROM runs WHERE source_id = :source AND outcome IN ('complete', 'partial') ORDER BY started_at DESC LIMIT 1
) ORDER BY last DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """When a source is due and how it was last visited. A success is a run that is complete or partial."""

    source_id: UUID
    due_at: datetime | None
    last_run_at: datetime | None
    last_outcome: str | None
    running: bool
    last_success_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited:
    """A visit, or a run that was made by hand; counts are None where no run was begun."""

    due_at: datetime
    why: str
    state: str
    attempt: int
    run_id: UUID | None
    started_at: datetime | None
    ended_at: datetime | None
    outcome: str | None
    reason: str | None
    wanted: int | None
    captured: int | None
    posts: int | None
    gaps: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a source has brought so far, and the ids that its newest successful run skipped (first, last)."""

    runs: int
    posts: int
    captures: int
    bytes: int
    gaps: tuple[tuple[int, int], ...]


def standings(catalog: Catalog, source_id: UUID | None = None) -> Mapping[UUID, Standing]:
    """Tell how every watched source stands, or one of them."""
    with catalog.begin() as connection:
        rows = connection.execute(text(_STANDINGS), {"source": source_id}).mappings().all()
    return {row["source_id"]: Standing(**_named(Standing, row)) for row in rows}


def latest_visits(catalog: Catalog, source_id: UUID, limit: int) -> list[Visited]:
    """List a source's visits and runs by hand, newest first."""
    with catalog.begin() as connection:
        rows = connection.execute(text(_LATEST), {"source": source_id, "limit": limit}).mappings().all()
    return [Visited(**_named(Visited, row)) for row in rows]


def totals(catalog: Catalog, source_id: UUID) -> Totals:
    """Count what a source has brought."""
    with catalog.begin() as connection:
        counts = connection.execute(text(_TOTALS), {"source": source_id}).mappings().one()
        gaps = tuple((row.first, row.last) for row in connection.execute(text(_GAPS), {"source": source_id}))
    return Totals(**counts, gaps=gaps)


def _named(kind: Any, row: RowMapping) -> dict[str, Any]:
    return {one.name: row[one.name] for one in fields(kind)}
