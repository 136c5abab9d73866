"""Writes into the catalogue what was captured and read, a batch at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from uuid import UUID

from sqlalchemy import Connection, select, update

from storage.catalog import Catalog, driver_cursor
from storage.copying import copy_batch, storable_values
from storage.exchange import RecordRef
from storage.rows import Batch, Committed, MediaResult, MediaState, StoredMedia
from storage.schema import captures, media, records
from storage.versions import write_posts


def commit_batch(catalog: Catalog, batch: Batch) -> Committed:
    """Write a batch, as a whole or not at all. To be called once for a batch, after its records are synced."""
    with catalog.begin() as connection:
        return write_batch(connection, batch)


def write_batch(connection: Connection, batch: Batch) -> Committed:
    """Do what commit_batch() does, within a transaction."""
    with driver_cursor(connection) as cursor:
        copy_batch(cursor, batch)
        committed = write_posts(cursor, batch.posts)  # last: it locks the channels until the end
        _write_results(connection, batch.media_results)
    return committed


def stored_media(catalog: Catalog, batch: Batch) -> Committed:
    """Find the rows of a batch's files that were written by their own ids; those of posts seen before are left out."""
    wanted = [one.id for post in batch.posts for one in post.media]
    with catalog.begin() as connection:
        found = connection.execute(
            select(media.c.id, media.c.state, media.c.file_capture_id).where(media.c.id.in_(wanted))
        )
        rows = {
            row.id: StoredMedia(id=row.id, state=MediaState(row.state), file_capture_id=row.file_capture_id)
            for row in found
        }
    return Committed(media=rows)


def missing_records(catalog: Catalog, refs: Sequence[RecordRef]) -> list[RecordRef]:
    """Leave out the records that are known already."""
    wanted = [ref.record_id for ref in refs]
    with catalog.begin() as connection:
        known = set(connection.scalars(select(records.c.id).where(records.c.id.in_(wanted))))
    return [ref for ref in refs if ref.record_id not in known]


def unclosed_captures(catalog: Catalog, run_id: UUID) -> list[UUID]:
    """List the captures of a run that records name and no row tells of: their process ended before they did."""
    named = select(records.c.capture_id).where(records.c.run_id == run_id, records.c.capture_id.is_not(None))
    closed = select(captures.c.id).where(captures.c.run_id == run_id)
    with catalog.begin() as connection:
        return sorted(one for (one,) in connection.execute(named.except_(closed)))


def _write_results(connection: Connection, results: Iterable[MediaResult]) -> None:
    for one in sorted(results, key=_media_id):
        wanted = update(media).where(media.c.id == one.media_id, media.c.state != MediaState.CAPTURED)
        values = {key: value for key, value in asdict(one).items() if key != "media_id"}
        connection.execute(wanted.values(storable_values(values)))


def _media_id(result: MediaResult) -> UUID:
    return result.media_id
