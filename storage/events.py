"""The chain of events in the catalogue: who did what to which digest, each link covering the one before it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, func, select

from storage.catalog import Catalog
from storage.copying import storable, storable_json
from storage.rows import BrokenChain, EventRow
from storage.schema import events

NO_EVENT = "0" * 64  # what the first event names as the one before it
_LOCK = 7421002  # the advisory lock that lets one process append at a time


@dataclass(frozen=True, slots=True)
class Telling:
    """An event that is to be appended; `detail` may hold no floats."""

    kind: str
    subject: str
    digest: str | None
    detail: Mapping[str, Any]


def append(connection: Connection, kind: str, subject: str, digest: str | None, detail: Mapping[str, Any]) -> EventRow:
    """Append an event; nobody else can until the transaction ends."""
    return append_all(connection, [Telling(kind, subject, digest, detail)])[0]


def add_event(
    catalog: Catalog, kind: str, subject: str, sha256: str | None = None, detail: Mapping[str, Any] | None = None
) -> EventRow:
    """Append to the chain of events; `detail` may hold no floats (they do not come back as they went)."""
    with catalog.begin() as connection:
        return append(connection, kind, subject, sha256, detail or {})


def append_all(connection: Connection, tellings: Sequence[Telling]) -> list[EventRow]:
    """Append events in this order; nobody else can until the transaction ends."""
    if not tellings:
        return []
    connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    last = connection.execute(
        select(events.c.id, events.c.event_sha256).order_by(events.c.id.desc()).limit(1)
    ).one_or_none()
    first, previous = (last.id + 1, last.event_sha256) if last else (1, NO_EVENT)
    made = []
    for number, telling in enumerate(tellings, first):
        made.append(_link(number, previous, telling))
        previous = made[-1].event_sha256
    connection.execute(events.insert(), [asdict(event) for event in made])
    return made


def _link(number: int, previous: str, telling: Telling) -> EventRow:
    link = {
        "id": number,
        "at": datetime.now(UTC),
        "kind": storable(telling.kind),
        "subject": storable(telling.subject),
        "sha256": telling.digest,
        "detail": storable_json(telling.detail),
        "previous_sha256": previous,
    }
    return EventRow(**link, event_sha256=event_sha256(link))


def event_sha256(link: Mapping[str, Any]) -> str:
    """Digest an event's fields but the digest itself: SHA-256 of their JSON with sorted keys, no spaces, ASCII only.

    `at` is written in UTC with six decimals. Raises ValueError for a float: it may come back from the catalogue as another.
    """
    _refuse_floats(link["detail"])
    plain = {key: value for key, value in link.items() if key != "event_sha256"}
    plain["at"] = link["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def check(connection: Connection) -> BrokenChain | None:
    """Compute the whole chain again; None if it holds. Events taken from its end do not show here."""
    expected, previous = 1, NO_EVENT
    for found in connection.execute(select(events).order_by(events.c.id)):
        row = found._asdict()
        if row["id"] != expected:
            return BrokenChain(id=expected, why="is missing")
        if row["previous_sha256"] != previous:
            return BrokenChain(id=expected, why="does not follow the event before it")
        if row["event_sha256"] != event_sha256(row):
            return BrokenChain(id=expected, why="was changed after it was written")
        expected, previous = expected + 1, row["event_sha256"]
    return None


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise ValueError(f"{value!r} in an event's detail: write a float as text")
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _refuse_floats(one)
