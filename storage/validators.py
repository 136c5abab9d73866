"""What servers said that their answers are known by (ETag, Last-Modified): a cache, not part of the archive."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from storage.catalog import Catalog
from storage.copying import storable
from storage.exchange import Original, RecordRef, RecordType
from storage.schema import records, validators

LIMIT_CHARACTERS = 1024  # of one validator: what a server says is sent back to it each time


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What an address answered with, exactly as given; both None: it gave none, and what is known of it is forgotten."""

    url: str
    ref: RecordRef
    seen_at: datetime
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What to send to an address, and the archived answer that a 304 refers to."""

    original: Original
    etag: str | None = None
    last_modified: str | None = None


def keep_validators(catalog: Catalog, source_id: UUID, found: Iterable[Validators]) -> None:
    """Write what addresses answered with; the records must be in the catalogue. What was known of them is replaced."""
    with catalog.begin() as connection:
        for one in found:
            key = {"source_id": source_id, "url_sha256": _key(one.url)}
            row = _row(connection, one) if one.etag or one.last_modified else None
            if row is None:
                forget = validators.delete().where(*(validators.c[name] == value for name, value in key.items()))
                connection.execute(forget)
                continue
            written = insert(validators).values(**key, **row)
            connection.execute(written.on_conflict_do_update(index_elements=list(key), set_=row))


def forget_validators(catalog: Catalog, source_id: UUID, url: str) -> None:
    """Forget what an address answered with: the next visit asks it without conditions."""
    mine = (validators.c.source_id == source_id) & (validators.c.url_sha256 == _key(url))
    with catalog.begin() as connection:
        connection.execute(validators.delete().where(mine))


def condition_of(catalog: Catalog, source_id: UUID, url: str, *, since: datetime) -> Condition | None:
    """Find what to send to an address; None where its record is not in the catalogue, or was seen before `since`."""
    names = (records.c.id, records.c.url, records.c.date, records.c.payload_sha256, records.c.payload_bytes)
    wanted = select(validators.c.etag, validators.c.last_modified, *names).join(
        records, records.c.id == validators.c.record_id
    )
    wanted = wanted.where(
        validators.c.source_id == source_id,
        validators.c.url_sha256 == _key(url),
        validators.c.seen_at >= since,
        records.c.payload_sha256 == validators.c.payload_sha256,
        records.c.truncated.is_(None),
    )
    with catalog.begin() as connection:
        row = connection.execute(wanted).one_or_none()
    if row is None:
        return None
    original = Original(
        record_id=row.id,
        url=row.url,
        date=row.date,
        payload_sha256=row.payload_sha256,
        payload_bytes=row.payload_bytes,
    )
    return Condition(original=original, etag=row.etag, last_modified=row.last_modified)


def _row(connection: Connection, one: Validators) -> dict[str, Any] | None:
    """Make the row; of a revisit the record that holds its bytes is named. None where nothing may be kept."""
    record_id = one.ref.refers_to if one.ref.type is RecordType.REVISIT else one.ref.record_id
    there = connection.execute(select(records.c.date).where(records.c.id == record_id)).one_or_none()
    if there is None or not one.ref.payload_sha256:
        return None
    return {
        "url": storable(one.url),
        "etag": one.etag,
        "last_modified": one.last_modified,
        "record_id": record_id,
        "record_date": there.date,
        "payload_sha256": one.ref.payload_sha256,
        "seen_at": one.seen_at,
    }


def _key(url: str) -> str:
    return sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
