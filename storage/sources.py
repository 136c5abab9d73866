"""The sources as the catalogue keeps them: one of each spider and URL, each with a slug of its own."""

from collections.abc import Sequence, Set
from dataclasses import asdict, replace
from itertools import chain, count
from uuid import UUID

from sqlalchemy import Connection, select, text, update
from sqlalchemy.dialects.postgresql import insert

from storage.catalog import Catalog
from storage.rows import SourceRow
from storage.schema import sources


def ensure_source(catalog: Catalog, row: SourceRow) -> SourceRow:
    """Find the source of this spider and URL as it is stored, else store it; a slug in use gets a number."""
    with catalog.begin() as connection:
        return ensure_sources(connection, [row])[0]


def ensure_sources(connection: Connection, rows: Sequence[SourceRow]) -> list[SourceRow]:
    """Do what ensure_source() does for each, within a transaction: nobody else makes a source until it ends."""
    connection.execute(text("LOCK TABLE sources IN SHARE ROW EXCLUSIVE MODE"))
    same = select(sources).where(sources.c.url.in_([row.url for row in rows]))
    there = {(row.url, row.spider): SourceRow(**row._mapping) for row in connection.execute(same)}
    made, stored = list[SourceRow](), list[SourceRow]()
    taken: set[str] = set()
    if any((row.url, row.spider) not in there for row in rows):
        taken.update(connection.scalars(select(sources.c.slug)))
    for row in rows:
        if (row.url, row.spider) not in there:
            made.append(replace(row, slug=_free(row.slug, taken)))
            there[row.url, row.spider] = made[-1]
            taken.add(made[-1].slug)
        stored.append(there[row.url, row.spider])
    if made:
        connection.execute(sources.insert(), [asdict(row) for row in made])
    return stored


def change_source(catalog: Catalog, source_id: UUID, **values: str | None) -> None:
    """Change how a source is read: render, robots, robots_reason, proxy."""
    with catalog.begin() as connection:
        connection.execute(update(sources).where(sources.c.id == source_id).values(values))


def put_source(catalog: Catalog, row: SourceRow) -> None:
    """Write a source, or give the one of its id these values."""
    values = asdict(row)
    changed = insert(sources).values(values).on_conflict_do_update(index_elements=["id"], set_=values)
    with catalog.begin() as connection:
        connection.execute(changed)


def free_slug(connection: Connection, slug: str) -> str:
    """Give a slug that no source has: this one, else with the first number that is free."""
    return _free(slug, set(connection.scalars(select(sources.c.slug).where(sources.c.slug.startswith(slug)))))


def _free(slug: str, taken: Set[str]) -> str:
    names = chain([slug], (f"{slug}-{n}" for n in count(2)))
    return next(name for name in names if name not in taken)
