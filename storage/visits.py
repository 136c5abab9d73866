"""Visits that are due, and what came of them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from storage.catalog import Catalog
from storage.ids import new_id
from storage.schema import visits


def ask_now(catalog: Catalog, sources: Sequence[tuple[UUID, str]], *, priority: int, at: datetime) -> list[UUID]:
    """Let sources, each given with its host, be visited as soon as a worker can. Returns the visits that were made."""
    rows = [
        {
            "id": new_id(),
            "source_id": source_id,
            "host": host,
            "due_at": at,
            "why": "now",
            "priority": priority,
            "state": "due",
            "attempt": 0,
            "not_before": at,
            "detail": {},
        }
        for source_id, host in sources
    ]
    if not rows:
        return []
    asked = insert(visits).values(rows).on_conflict_do_nothing().returning(visits.c.id)
    with catalog.begin() as connection:
        return list(connection.scalars(asked))
