"""What the catalogue gives back, and the names it has for programs (`--json`)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from storage.exchange import RecordRef

# the names that --json gives to a record's fields
_RECORD_NAMES = {
    "url": "url",
    "type": "type",
    "status": "status",
    "warc": "warc",
    "offset": "offset_bytes",
    "length": "length_bytes",
    "record_sha256": "record_sha256",
    "payload_sha256": "payload_sha256",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMedia:
    """A file that a post names; `file_capture` is the capture of the file itself, once there is one."""

    id: UUID
    kind: str
    item_id: str | None
    url: str | None
    state: str
    why: str | None
    file_capture: UUID | None
    payload_sha256: str | None
    duration_seconds: float | None
    title: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A post, article, page or media, told apart by `kind`; the fields bear the names of --json.

    A post is its newest version. `capture` is the newest that this version was read from, `captures` are those of
    all its versions, oldest first; `run`, `captured_at` and `verdict` are those of `capture`.
    """

    id: UUID
    capture: UUID | None
    captures: tuple[UUID, ...]
    run: UUID | None
    source: str
    kind: str
    url: str
    post_id: str | None = None
    author: str | None = None
    title: str | None = None
    text: str | None = None
    language: str | None = None
    concepts: tuple[str, ...] = ()
    published_at: datetime | None = None
    published_raw: str | None = None
    edited: bool | None = None
    views: int | None = None
    forwarded_from: Mapping[str, Any] | None = None
    reply_to: Mapping[str, Any] | None = None
    media: tuple[FoundMedia, ...] = ()
    captured_at: datetime | None = None
    verdict: str | None = None
    replay: Mapping[str, Any] | None = None
    records: tuple[RecordRef, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Make the object that --json prints; `replay` is among it where the capture was replayed for a check."""
        plain: dict[str, Any] = _plain(self)
        return plain if plain["replay"] is not None else {name: plain[name] for name in plain if name != "replay"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run as it ended, or as it stands; the fields up to `preserved` are those of --json.

    `warc_files` counts the WARCs that it wrote into, `preserved` those of them whose stored bytes were read back and are equal.
    """

    run: UUID
    outcome: str | None
    wanted: int
    captured: int
    refused: int
    truncated: int
    failed: int
    revisits: int
    similar: int
    gaps: int
    not_offered: int
    posts: int
    media: int
    warc_files: int
    bytes: int
    preserved: int
    source: str
    started_at: datetime
    ended_at: datetime | None
    attempt: int
    reason: str | None
    versions: Mapping[str, Any]
    detail: Mapping[str, Any]
    process: str | None

    def to_json(self) -> dict[str, Any]:
        """Make the object that --json prints."""
        return _plain(self)


def record_json(ref: RecordRef) -> dict[str, Any]:
    """Make the object that --json prints for a record."""
    return {name: _plain(getattr(ref, attribute)) for name, attribute in _RECORD_NAMES.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, RecordRef):
        return record_json(value)
    if isinstance(value, (Found, FoundMedia, RunSummary)):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, UUID):
        return str(value)
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
