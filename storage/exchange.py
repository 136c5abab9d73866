"""What a fetcher hands over to be kept: a request and its response as they crossed the wire."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from storage.ids import new_id


class Truncated(StrEnum):
    """Why a response ends before its end (ISO 28500:2017 5.13)."""

    LENGTH = "length"  # our own limit of bytes was reached
    TIME = "time"  # our own limit of time was reached
    DISCONNECT = "disconnect"  # the connection ended first
    UNSPECIFIED = "unspecified"  # none of these, or unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A block too large for memory: a scratch file of ours, deleted by the writer once appended."""

    path: Path
    length_bytes: int


Block = bytes | Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came back, bytes as on the wire.

    `response` is None when not one byte came; `failure` then says why ("timeout", "refused", ...).
    1xx interim answers are left out of `response` and named in `notes`.
    `protocols` are WARC-Protocol values ("http/1.1", "tls/1.3"), `cipher` a WARC-Cipher-Suite.
    `ip` is the origin's address, None behind a proxy (it cannot be known there).
    `notes` are declared alterations and circumstances, written as extra WARC fields.
    `capture` is what it belongs to; each of its records and their rows in the manifest say so.
    """

    url: str
    method: str
    started_at: datetime
    ended_at: datetime
    request: bytes
    response: Block | None
    ip: str | None = None
    protocols: tuple[str, ...] = ()
    cipher: str | None = None
    truncated: Truncated | None = None
    failure: str | None = None
    notes: tuple[tuple[str, str], ...] = ()
    capture: UUID | None = None
    record_id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Bytes we made or read beside the wire: a screenshot, a rendered DOM, an info.json.

    `url` is the record's WARC-Target-URI ("urn:screenshot:<page url>"); `about` is the record it was made from.
    """

    url: str
    made_at: datetime
    media_type: str
    body: Block
    about: UUID | None = None
    notes: tuple[tuple[str, str], ...] = ()
    capture: UUID | None = None
    record_id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """An earlier response with the same payload, which a revisit record refers to (dates as archived text).

    `payload_bytes` is told where the revisit itself has no payload to measure: a 304.
    """

    record_id: UUID
    url: str
    date: str
    payload_sha256: str
    payload_bytes: int | None = None


class RecordType(StrEnum):
    """ISO 28500:2017 6; those that we write."""

    WARCINFO = "warcinfo"
    REQUEST = "request"
    RESPONSE = "response"
    REVISIT = "revisit"
    RESOURCE = "resource"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRef:
    """Where a record stands and what it is.

    `offset_bytes` and `length_bytes` are those of its gzip member in `warc` (a file name); `record_sha256` is of exactly
    those bytes, so that `tail -c +N | head -c L | sha256sum` proves it. `block_sha256` and `payload_sha256`
    are of the decoded block and of the de-chunked payload. All digests are lower-case hex. `date` is WARC-Date as written.
    """

    record_id: UUID
    type: RecordType
    url: str
    date: str
    warc: str
    offset_bytes: int
    length_bytes: int
    record_sha256: str
    block_sha256: str
    payload_sha256: str | None = None
    payload_bytes: int | None = None
    status: int | None = None
    media_type: str | None = None
    truncated: Truncated | None = None
    concurrent_to: UUID | None = None
    refers_to: UUID | None = None
    capture: UUID | None = None
    concurrent: tuple["RecordRef", ...] = ()
