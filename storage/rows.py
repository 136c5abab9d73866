"""What is written into the catalogue: one value for each row, and the Batch that is committed at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from storage.exchange import RecordRef, Truncated
from storage.ids import new_id


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"  # all that was wanted is captured, or refused as the source is known to
    PARTIAL = "partial"
    REFUSED = "refused"  # the source let nothing be read
    FAILED = "failed"


class CaptureKind(StrEnum):
    """What was captured."""

    PAGE = "page"
    FILE = "file"  # a picture or document that a page shows
    MEDIA = "media"  # a video or sound, by the media fetcher
    RENDERED = "rendered"  # what the browser made of a page
    ROBOTS = "robots"


class CaptureState(StrEnum):
    """How a capture ended; disjoint, so that their counts add up to what was wanted."""

    CAPTURED = "captured"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    FAILED = "failed"


class MediaState(StrEnum):
    """What became of a post's file."""

    OFFERED = "offered"  # the page names it, nobody fetched it yet
    CAPTURED = "captured"
    FAILED = "failed"
    NOT_OFFERED = "not_offered"  # the platform shows that it exists and gives no address


class WarcState(StrEnum):
    """Where a WARC file is in its life."""

    OPEN = "open"
    SEALED = "sealed"
    UPLOADED = "uploaded"
    PRESERVED = "preserved"  # the store's bytes were read back and are equal
    TORN = "torn"  # its writer was killed; what was whole has been kept


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """What we watch. `render` and `robots` are the words of the settings."""

    slug: str
    url: str
    spider: str
    created_at: datetime
    render: str | None = None
    robots: str | None = None
    robots_reason: str | None = None
    proxy: str | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A visit that begins. `process` says which process does it; `versions` are those of the software."""

    source_id: UUID
    started_at: datetime
    attempt: int = 1
    versions: Mapping[str, Any] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    process: str | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a run did: wanted = captured + refused + truncated + failed; the others are counted apart."""

    wanted: int = 0
    captured: int = 0
    refused: int = 0
    truncated: int = 0
    failed: int = 0
    revisits: int = 0
    similar: int = 0
    gaps: int = 0
    not_offered: int = 0
    posts: int = 0
    media: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRow:
    """One page, file or rendered view at one time. `verdict` is what its reader said, `parent` the page it belongs to."""

    run_id: UUID
    source_id: UUID
    url: str
    kind: CaptureKind
    state: CaptureState
    captured_at: datetime
    final_url: str | None = None
    reason: str | None = None
    verdict: str | None = None
    status: int | None = None
    media_type: str | None = None
    payload_sha256: str | None = None
    payload_bytes: int | None = None
    parent: UUID | None = None
    truncated: Truncated | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """A record's place in a WARC; the records in `ref.concurrent` are written with it and must not be given again."""

    ref: RecordRef
    run_id: UUID
    capture_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRow:
    """A file that a page names. `identity` is what stays the same between visits; its default is enough for most.

    Addresses often hold a token that changes with each visit: such a change alone is no edit of the post.
    """

    kind: str
    state: MediaState
    url: str | None = None
    item_id: str | None = None
    why: str | None = None
    file_capture_id: UUID | None = None
    payload_sha256: str | None = None
    duration_seconds: float | None = None
    title: str | None = None
    identity: str | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMediaRow:
    """A file that belongs to no post: the capture is that of the page (or media page) that names it."""

    capture_id: UUID
    media: MediaRow


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaResult:
    """What became of a media row written earlier. A file that is captured stays so, whatever comes later."""

    media_id: UUID
    state: MediaState
    why: str | None = None
    file_capture_id: UUID | None = None
    payload_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PostRow:
    """A post as one capture shows it, seen at `seen_at`. The catalogue decides whether it is new, edited or the same.

    `id` and `version_id` are used where a row is made for it.
    """

    source_id: UUID
    capture_id: UUID
    seen_at: datetime
    kind: str
    platform: str
    post_id: str
    url: str
    channel: str | None = None
    channel_id: str | None = None
    author: str | None = None
    title: str | None = None
    text: str = ""
    language: str | None = None
    published_at: datetime | None = None
    published_raw: str | None = None
    edited: bool = False
    views: int | None = None
    views_raw: str | None = None
    forwarded_from: Mapping[str, Any] | None = None
    reply_to: Mapping[str, Any] | None = None
    links: tuple[str, ...] = ()
    service: bool = False
    post_ids: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    media: tuple[MediaRow, ...] = ()
    id: UUID = field(default_factory=new_id)
    version_id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class FingerprintRow:
    """A perceptual hash (unsigned 64 bits) of a payload, or why it has none."""

    payload_sha256: str
    algorithm: str
    version: str
    capture_id: UUID | None = None
    record_id: UUID | None = None
    hash: int | None = None
    failure: str | None = None
    width: int | None = None
    height: int | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarRow:
    """Two pictures whose hashes differ by `distance` bits. A lead, never a reason to drop one."""

    fingerprint_id: UUID
    earlier_id: UUID
    distance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GapRow:
    """Ids that a channel's page skips. Never a proof of deletion."""

    run_id: UUID
    source_id: UUID
    channel: str | None
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """All that one group sync of the spool made safe; committed as a whole or not at all."""

    captures: tuple[CaptureRow, ...] = ()
    records: tuple[RecordRow, ...] = ()
    posts: tuple[PostRow, ...] = ()
    media: tuple[PageMediaRow, ...] = ()
    media_results: tuple[MediaResult, ...] = ()
    fingerprints: tuple[FingerprintRow, ...] = ()
    similar: tuple[SimilarRow, ...] = ()
    gaps: tuple[GapRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMedia:
    """The catalogue's row for a media that was given: another id where the post is the same as before."""

    id: UUID
    state: MediaState
    file_capture_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What a batch's posts turned out to be, and for the id of each MediaRow of a post its row in the catalogue."""

    new: int = 0
    edited: int = 0
    same: int = 0
    media: Mapping[UUID, StoredMedia] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarcRow:
    """A WARC file and how far it has come."""

    name: str
    run_id: UUID
    state: WarcState
    path: str | None = None
    key: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    records: int | None = None
    sealed_at: datetime | None = None
    preserved_at: datetime | None = None
    version_id: str | None = None
    manifest_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class WrittenBy:
    """A run that wrote into a WARC, and where its warcinfo record stands there: its records are behind it."""

    run: UUID
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One link of the chain of events; `event_sha256` covers all the other fields, `previous_sha256` among them."""

    id: int
    at: datetime
    kind: str
    subject: str
    sha256: str | None
    detail: Mapping[str, Any]
    previous_sha256: str
    event_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenChain:
    """The first event of the chain that is not as it was written."""

    id: int
    why: str
