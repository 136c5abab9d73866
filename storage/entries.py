"""Tells the catalogue what the entries of journals say, each once, and knows which it has been told."""

from dataclasses import asdict, replace
from uuid import UUID

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from storage.batches import write_batch
from storage.catalog import Catalog
from storage.copying import storable_values
from storage.journal import Entry, EntryKind
from storage.rows import Batch, Committed, RunRow, SourceRow
from storage.runs import end_values
from storage.schema import journal, runs, sources
from storage.sources import free_slug

_NEXT_PLACE = """
SELECT setval('journal_place', greatest(nextval('journal_place'), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
"""


def next_place(catalog: Catalog) -> int:
    """Give the place of the next journal entry: greater than all given before, to whatever process.

    It is the server's clock in microseconds where that is ahead of the last place, so that a catalogue begun anew goes on
    behind the places of the one that was lost.
    """
    with catalog.begin() as connection:
        return int(connection.scalar(text(_NEXT_PLACE)) or 0)


def tell_entry(catalog: Catalog, entry: Entry, record_id: UUID, *, place: int | None = None) -> Committed | None:
    """Write what a journal entry tells, once: None where the catalogue has been told this record before.

    To be called after the entry and the records that it refers to are synced. `place` is another than the entry's
    where it is told later than its place says.
    """
    told = {"record_id": record_id, "run_id": entry.run, "kind": entry.kind}
    told |= {"place": entry.place if place is None else place}
    with catalog.begin() as connection:
        first = insert(journal).values(told).on_conflict_do_nothing().returning(journal.c.record_id)
        if connection.execute(first).first() is None:
            return None
        if entry.run_row and entry.source:
            _ensure_run(connection, entry.run_row, entry.source)
        committed = write_batch(connection, _of_its_source(connection, entry)) if entry.batch else Committed()
        if entry.end:
            _end(connection, entry)
    return committed


def skip_places(catalog: Catalog, place: int) -> None:
    """Let the next place be greater than this one."""
    with catalog.begin() as connection:
        connection.execute(select(func.setval("journal_place", place)))


def told_entries(catalog: Catalog, run_id: UUID) -> set[UUID]:
    """List the journal entries of a run that this catalogue has been told, by their record ids."""
    with catalog.begin() as connection:
        return set(connection.scalars(select(journal.c.record_id).where(journal.c.run_id == run_id)))


def end_is_told(catalog: Catalog, run_id: UUID) -> bool:
    """Tell whether the journal knows how a run ended."""
    known = select(journal.c.place).where(journal.c.run_id == run_id, journal.c.kind == EntryKind.END)
    with catalog.begin() as connection:
        return connection.execute(known.limit(1)).first() is not None


def ends_untold(catalog: Catalog) -> list[UUID]:
    """List the runs with a journal that have ended and whose end it does not know."""
    begun = select(journal.c.run_id).where(journal.c.run_id == runs.c.id)
    wanted = select(runs.c.id).where(
        runs.c.ended_at.is_not(None), begun.exists(), ~begun.where(journal.c.kind == EntryKind.END).exists()
    )
    with catalog.begin() as connection:
        return list(connection.scalars(wanted.order_by(runs.c.started_at)))


def _ensure_run(connection: Connection, run: RunRow, source: SourceRow) -> None:
    """Write a run and its source where the catalogue has lost them; what it has stays."""
    if connection.execute(select(runs.c.id).where(runs.c.id == run.id)).first():
        return
    same = select(sources.c.id).where(sources.c.url == source.url, sources.c.spider == source.spider)
    there = connection.scalar(same)
    if there is None:
        slug = free_slug(connection, source.slug)
        connection.execute(sources.insert().values(storable_values({**asdict(source), "slug": slug})))
    connection.execute(runs.insert().values(storable_values({**asdict(run), "source_id": there or source.id})))


def _of_its_source(connection: Connection, entry: Entry) -> Batch:
    """Give an entry's batch with the source that its run has here: another id where its source was lost and made anew."""
    assert entry.batch
    batch, source = entry.batch, connection.scalar(select(runs.c.source_id).where(runs.c.id == entry.run))
    named = {row.source_id for rows in (batch.captures, batch.posts, batch.gaps) for row in rows}
    if source is None or named <= {source}:
        return batch
    return replace(
        batch,
        captures=tuple(replace(one, source_id=source) for one in batch.captures),
        posts=tuple(replace(one, source_id=source) for one in batch.posts),
        gaps=tuple(replace(one, source_id=source) for one in batch.gaps),
    )


def _end(connection: Connection, entry: Entry) -> None:
    assert entry.end and entry.run_row
    values = end_values(entry.end, entry.run_row.detail)
    connection.execute(update(runs).where(runs.c.id == entry.run).values(values))
