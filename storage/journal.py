"""The journal: what the catalogue is told, written into the WARC first, so that the catalogue can be made again from it.

An entry is a metadata record, urn:osint:journal:<run>:<kind>:<place>, whose block is JSON. It is synced before the catalogue
is told the same in one transaction, which notes the entry's record id. Entries told again in the order of their places give the
same catalogue; the references to records stand in the manifests and are not repeated here.
"""

import json
import math
import threading
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from storage.copying import storable_json
from storage.exchange import RecordRef
from storage.rows import Batch, Counters, Outcome, RunRow, SourceRow

_PREFIX = "urn:osint:journal:"
_CONVERTING = threading.Lock()  # msgspec 0.22 crashes where two threads look a dataclass up for the first time


class EntryKind(StrEnum):
    """What an entry tells."""

    BEGIN = "begin"  # a run and its source
    BATCH = "batch"  # what one group sync made safe
    REPLAY = "replay"  # an earlier entry, which was synced and not told before its process ended, is told now
    END = "end"  # how a run ended; the last one of a run holds
    REREAD = "reread"  # a batch of posts read again from old captures


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended."""

    outcome: Outcome
    ended_at: datetime
    counters: Counters
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry. `place` is its order among the entries of all runs; `run_row` and `source` stand in BEGIN and END."""

    kind: EntryKind
    run: UUID
    place: int
    batch: Batch | None = None
    replays: UUID | None = None
    run_row: RunRow | None = None
    source: SourceRow | None = None
    end: RunEnd | None = None

    @property
    def url(self) -> str:
        """The WARC-Target-URI of its record."""
        return f"{_PREFIX}{self.run}:{self.kind}:{self.place}"


class NoEntry(ValueError):
    """A record's block is no journal entry that this program reads."""


def encode(entry: Entry) -> bytes:
    """Write an entry as JSON in ASCII, without the references to records; values as PostgreSQL can keep them, NaN as null."""
    if entry.batch:
        entry = replace(entry, batch=replace(entry.batch, records=()))
    plain = _finite(storable_json(msgspec.to_builtins(entry)))
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode("ascii")


def as_written(entry: Entry, block: bytes) -> Entry:
    """Give the entry as it reads from its block, with its references to records: the catalogue is told what the WARC says."""
    read = decode(block)
    if entry.batch and read.batch:
        return replace(read, batch=replace(read.batch, records=entry.batch.records))
    return read


def decode(block: bytes) -> Entry:
    """Read an entry. Raises NoEntry."""
    try:
        with _CONVERTING:
            return msgspec.convert(json.loads(block), Entry)
    except (ValueError, msgspec.ValidationError) as error:
        raise NoEntry(f"no journal entry that this program reads: {error}") from error


def is_journal(ref: RecordRef) -> bool:
    """Tell whether a record is an entry of the journal."""
    return ref.url.startswith(_PREFIX)


def told_by(url: str) -> tuple[UUID, EntryKind, int]:
    """Read run, kind and place out of an entry's WARC-Target-URI. Raises NoEntry."""
    try:
        run, kind, place = url.removeprefix(_PREFIX).split(":")
        return UUID(run), EntryKind(kind), int(place)
    except ValueError as error:
        raise NoEntry(f"{url!r} names no journal entry") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value
