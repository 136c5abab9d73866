"""The catalogue's tables (SQLAlchemy Core), as the newest migration leaves them; what each row means.

Keys are UUIDv7 of the caller's, times are aware UTC, digests are 32 bytes here and lower-case hex outside.
`captures` and `records` bear no foreign keys: they are the hot path (10 million rows), only appended, and a browser's
records are committed before the capture that they end in.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

# NFC, so that й is one letter however it was typed; without stress marks, soft hyphens, zero-width marks and
# apostrophes, which would cut a word in two ("сям’я"). Words beyond the first 100,000 letters are not found.
PLAIN = r"regexp_replace(normalize({0}, NFC), '[\u0301\u00AD\u200B-\u200D\u2060\uFEFF''’ʼ`]', '', 'g')"
WORDS = "to_tsvector('simple', " + PLAIN.format("left(coalesce(title, '') || ' ' || text, 100000)") + ")"
TITLE_WORDS = "to_tsvector('simple', " + PLAIN.format("left(title, 100000)") + ")"

SUCCESS = "outcome IN ('complete', 'partial') AND captured > 0"  # a run that brought something of its source


class Sha256(TypeDecorator[str]):
    """A digest: lower-case hex in Python, 32 bytes in the table (half of the room of the text, in its indexes too)."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else bytes.fromhex(value)

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:
        return None if value is None else bytes(value).hex()


metadata = MetaData()
TIME = DateTime(timezone=True)


def _id() -> Column[Any]:
    return Column("id", Uuid, primary_key=True)


def _count(name: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


sources = Table(
    "sources",
    metadata,
    _id(),
    Column("slug", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("spider", Text, nullable=False),
    Column("render", Text),
    Column("robots", Text),
    Column("robots_reason", Text),
    Column("proxy", Text),
    Column("created_at", TIME, nullable=False),
    UniqueConstraint("slug", name="sources_slug_key"),
    UniqueConstraint("url", "spider", name="sources_url_spider_key"),
)

runs = Table(
    "runs",
    metadata,
    _id(),
    Column("source_id", Uuid, ForeignKey("sources.id", name="runs_source_id_fkey"), nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("ended_at", TIME),
    Column("outcome", Text),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    *(_count(name) for name in ("wanted", "captured", "refused", "truncated", "failed", "revisits", "similar")),
    *(_count(name) for name in ("gaps", "not_offered", "posts", "media")),
    Column("bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("reason", Text),
    Column("versions", JSONB, nullable=False, server_default=text("'{}'")),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    Column("process", Text),
    Index("runs_source_id_started_at_idx", "source_id", "started_at"),
    Index("runs_unfinished_idx", "started_at", postgresql_where=text("ended_at IS NULL")),
    Index("runs_ended_at_idx", "ended_at"),
    Index("runs_success_idx", "source_id", "started_at", postgresql_where=text(SUCCESS)),
)

captures = Table(
    "captures",
    metadata,
    _id(),
    Column("run_id", Uuid, nullable=False),
    Column("source_id", Uuid, nullable=False),
    Column("url", Text, nullable=False),
    Column("final_url", Text),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("verdict", Text),
    Column("status", Integer),
    Column("media_type", Text),
    Column("captured_at", TIME, nullable=False),
    Column("payload_sha256", Sha256),
    Column("payload_bytes", BigInteger),
    Column("parent", Uuid),
    Column("truncated", Text),
    Index("captures_run_id_idx", "run_id"),
    Index("captures_source_id_captured_at_idx", "source_id", "captured_at"),
    Index("captures_captured_at_idx", "captured_at"),
    # for whole URLs and beginnings of URLs; a whole one may be too long for an index
    Index("captures_url_idx", text("left(url, 400) text_pattern_ops")),
    Index(
        "captures_final_url_idx",
        text("left(final_url, 400) text_pattern_ops"),
        postgresql_where=text("final_url <> url"),
    ),
    # what was wanted and did not come: osint_pipeline/reconcile.py
    Index("captures_missing_idx", "source_id", "captured_at", postgresql_where=text("state <> 'captured'")),
    Index("captures_parent_idx", "parent", postgresql_where=text("parent IS NOT NULL")),
)

records = Table(
    "records",
    metadata,
    _id(),
    Column("capture_id", Uuid),
    Column("run_id", Uuid, nullable=False),
    Column("type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("date", Text, nullable=False),
    Column("status", Integer),
    Column("media_type", Text),
    Column("warc", Text, nullable=False),
    Column("offset_bytes", BigInteger, nullable=False),
    Column("length_bytes", BigInteger, nullable=False),
    Column("record_sha256", Sha256, nullable=False),
    Column("block_sha256", Sha256, nullable=False),
    Column("payload_sha256", Sha256),
    Column("payload_bytes", BigInteger),
    Column("concurrent_to", Uuid),
    Column("refers_to", Uuid),
    Column("truncated", Text),
    Index("records_capture_id_idx", "capture_id"),
    Index("records_run_id_idx", "run_id"),
    Index("records_warc_idx", "warc"),
    Index(
        "records_original_idx",
        "payload_sha256",
        postgresql_where=text("type = 'response' AND truncated IS NULL AND payload_sha256 IS NOT NULL"),
    ),
)

posts = Table(
    "posts",
    metadata,
    _id(),
    Column("source_id", Uuid, ForeignKey("sources.id", name="posts_source_id_fkey"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("channel", Text),
    Column("channel_id", Text),
    Column("channel_key", Text, Computed("coalesce(channel_id, lower(channel), '')", persisted=True), nullable=False),
    Column("post_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("first_seen", TIME, nullable=False),
    UniqueConstraint("platform", "channel_key", "post_id", name="posts_platform_channel_key_post_id_key"),
    Index("posts_source_id_idx", "source_id"),
    Index("posts_url_idx", text("left(url, 400) text_pattern_ops")),
)

post_versions = Table(
    "post_versions",
    metadata,
    _id(),
    Column("post_id", Uuid, ForeignKey("posts.id", name="post_versions_post_id_fkey"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("content_sha256", Sha256, nullable=False),
    Column("author", Text),
    Column("title", Text),
    Column("text", Text, nullable=False),
    Column("language", Text),
    Column("published_at", TIME),
    Column("published_raw", Text),
    Column("edited", Boolean, nullable=False),
    Column("views", BigInteger),
    Column("views_raw", Text),
    Column("forwarded_from", JSONB),
    Column("reply_to", JSONB),
    Column("links", JSONB, nullable=False),
    Column("service", Boolean, nullable=False),
    Column("post_ids", JSONB, nullable=False),
    Column("extra", JSONB, nullable=False),
    Column("first_seen", TIME, nullable=False),
    Column("last_seen", TIME, nullable=False),
    Column("words", TSVECTOR, Computed(WORDS, persisted=True)),
    UniqueConstraint("post_id", "version", name="post_versions_post_id_version_key"),
    Index("post_versions_words_idx", "words", postgresql_using="gin"),
    Index("post_versions_when_idx", text("coalesce(published_at, first_seen)")),
)

version_captures = Table(
    "version_captures",
    metadata,
    Column("version_id", Uuid, ForeignKey("post_versions.id", name="version_captures_version_id_fkey")),
    Column("capture_id", Uuid),
    PrimaryKeyConstraint("version_id", "capture_id", name="version_captures_pkey"),
    Index("version_captures_capture_id_idx", "capture_id"),
)

media = Table(
    "media",
    metadata,
    _id(),
    Column("post_version_id", Uuid, ForeignKey("post_versions.id", name="media_post_version_id_fkey")),
    Column("capture_id", Uuid),
    Column("place", Integer, nullable=False),  # its place among the files of its post
    Column("item_id", Text),
    Column("kind", Text, nullable=False),
    Column("url", Text),
    Column("file_capture_id", Uuid),
    Column("state", Text, nullable=False),
    Column("why", Text),
    Column("payload_sha256", Sha256),
    Column("duration_seconds", Float),
    Column("title", Text),
    Index("media_post_version_id_idx", "post_version_id"),
    Index("media_capture_id_idx", "capture_id"),
    Index("media_file_capture_id_idx", "file_capture_id"),
    Index("media_title_idx", text(TITLE_WORDS), postgresql_using="gin", postgresql_where=text("title IS NOT NULL")),
)

fingerprints = Table(
    "fingerprints",
    metadata,
    _id(),
    Column("capture_id", Uuid),
    Column("record_id", Uuid),
    Column("payload_sha256", Sha256, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("hash", BigInteger),
    Column("failure", Text),
    Column("width", Integer),
    Column("height", Integer),
    Index("fingerprints_payload_sha256_idx", "payload_sha256"),
    Index("fingerprints_capture_id_idx", "capture_id"),
)

similar = Table(
    "similar",
    metadata,
    Column("fingerprint_id", Uuid),  # no foreign keys: the WARC that the earlier one stood in may be lost
    Column("earlier_id", Uuid),
    Column("distance", Integer, nullable=False),
    PrimaryKeyConstraint("fingerprint_id", "earlier_id", name="similar_pkey"),
    Index("similar_earlier_id_idx", "earlier_id"),
)

warc_files = Table(
    "warc_files",
    metadata,
    Column("name", Text, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("path", Text),
    Column("key", Text),
    Column("size_bytes", BigInteger),
    Column("sha256", Sha256),
    Column("records", Integer),
    Column("sealed_at", TIME),
    Column("preserved_at", TIME),
    Column("version_id", Text),
    Column("manifest_sha256", Sha256),
    Index("warc_files_run_id_idx", "run_id"),
    Index("warc_files_state_idx", "state", postgresql_where=text("state <> 'preserved'")),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3...: one that is missing shows
    Column("at", TIME, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("sha256", Sha256),
    Column("detail", JSONB, nullable=False),
    Column("previous_sha256", Sha256, nullable=False),
    Column("event_sha256", Sha256, nullable=False),
    Index("events_subject_idx", "subject"),
)

journal = Table(  # the entries of WARCs (storage/journal.py) that this catalogue has been told
    "journal",
    metadata,
    Column("record_id", Uuid, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("place", BigInteger, nullable=False),
    Index("journal_run_id_idx", "run_id"),
    Index("journal_place_idx", "place"),
)

rebuilding = Table("rebuilding", metadata, Column("since", TIME, nullable=False))  # one row while it is made again

gaps = Table(
    "gaps",
    metadata,
    Column("run_id", Uuid, nullable=False),
    Column("source_id", Uuid, nullable=False),
    Column("channel", Text),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Index("gaps_source_id_idx", "source_id"),
    Index("gaps_run_id_idx", "run_id"),
)

warc_runs = Table(  # which runs wrote into a WARC; warc_files.run_id is the first of them
    "warc_runs",
    metadata,
    Column("warc", Text),
    Column("run_id", Uuid),
    Column("offset_bytes", BigInteger, nullable=False),  # of the warcinfo record that the run begins with
    Column("machine", Text),  # in whose spool the WARC was written, where that is known
    PrimaryKeyConstraint("warc", "run_id", name="warc_runs_pkey"),
    Index("warc_runs_run_id_idx", "run_id"),
)

watches = Table(  # how a source is watched; one that was only crawled by hand has no row
    "watches",
    metadata,
    Column("source_id", Uuid, ForeignKey("sources.id", name="watches_source_id_fkey"), primary_key=True),
    Column("name", Text),
    Column("schedule", Text),  # cron of five fields; none: only when asked
    Column("timezone", Text, nullable=False),
    Column("jitter_seconds", Integer, nullable=False),
    Column("catch_up", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("languages", JSONB, nullable=False),
    Column("tags", JSONB, nullable=False),
    Column("limit_pages", Integer),
    Column("limit_bytes", BigInteger),
    Column("limit_seconds", Integer),
    Column("backfill_pages", Integer),
    Column("added_at", TIME, nullable=False),
    Column("changed_at", TIME, nullable=False),
    Column("paused_at", TIME),
    Column("paused_why", Text),
    Column("removed_at", TIME),
    Column("identity", Text),
)

due = Table(  # when each watched source is to be visited next
    "due",
    metadata,
    Column("source_id", Uuid, ForeignKey("sources.id", name="due_source_id_fkey"), primary_key=True),
    Column("at", TIME, nullable=False),
    Index("due_at_idx", "at"),
)

visits = Table(  # each visit that was due, and what came of it: none is forgotten, none is made twice
    "visits",
    metadata,
    _id(),
    Column("source_id", Uuid, ForeignKey("sources.id", name="visits_source_id_fkey"), nullable=False),
    Column("host", Text, nullable=False),
    Column("due_at", TIME, nullable=False),
    Column("why", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("not_before", TIME, nullable=False),
    Column("run_id", Uuid),
    Column("worker", Text),
    Column("started_at", TIME),
    Column("ended_at", TIME),
    Column("outcome", Text),
    Column("reason", Text),
    Column("detail", JSONB, nullable=False),
    UniqueConstraint("source_id", "due_at", "why", name="visits_source_id_due_at_why_key"),
    Index("visits_open_idx", "host", "not_before", postgresql_where=text("state IN ('due', 'running')")),
    Index("visits_due_at_idx", "due_at"),
    Index("visits_started_at_idx", "started_at"),
    Index("visits_ended_at_idx", "ended_at"),
    Index("visits_run_id_idx", "run_id"),
)

validators = Table(  # what a server said an answer is known by; a cache, not part of the archive
    "validators",
    metadata,
    Column("source_id", Uuid, primary_key=True),
    Column("url_sha256", Sha256, primary_key=True),
    Column("url", Text, nullable=False),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("record_id", Uuid, nullable=False),
    Column("record_date", Text, nullable=False),
    Column("payload_sha256", Sha256),
    Column("seen_at", TIME, nullable=False),
)

walls = Table(  # what refused us lately, of each host, for each way out and fetcher; a note for the next visits, not evidence
    "walls",
    metadata,
    Column("host", Text),
    Column("exit", Text),
    Column("fetcher", Text),
    Column("verdict", Text),
    Column("reason", Text),
    Column("since", TIME, nullable=False),
    Column("last_at", TIME, nullable=False),
    Column("count", BigInteger, nullable=False),
    PrimaryKeyConstraint("host", "exit", "fetcher", "verdict", name="walls_pkey"),
    Index("walls_last_at_idx", "last_at"),
)

watch_lists = Table(  # words to look for; the highest version of a name and language holds
    "watch_lists",
    metadata,
    Column("name", Text, primary_key=True),
    Column("language", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("words", JSONB, nullable=False),
    Column("changed_at", TIME, nullable=False),
)

machines = Table(  # what each machine's worker last said of itself
    "machines",
    metadata,
    Column("name", Text, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("seen_at", TIME, nullable=False),
    Column("detail", JSONB, nullable=False),
)

alerts = Table(  # each trouble from its beginning to its end; one of a rule and subject at a time
    "alerts",
    metadata,
    _id(),
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("said", Text, nullable=False),
    Column("began_at", TIME, nullable=False),
    Column("told_at", TIME),
    Column("ended_at", TIME),
    Column("end_told_at", TIME),
    Column("detail", JSONB, nullable=False),
    Index("alerts_open_idx", "rule", "subject", unique=True, postgresql_where=text("ended_at IS NULL")),
    Index("alerts_began_at_idx", "began_at"),
)

totals = Table(  # sums over all that was counted up to `counted`: they only grow, whoever asks
    "totals",
    metadata,
    Column("name", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

counted = Table(  # one row: runs and visits that ended up to a moment, events up to a number
    "counted",
    metadata,
    Column("upto", TIME, nullable=False),
    Column("event_id", BigInteger, nullable=False),
)

replays = Table(  # how a capture looked when it was shown from the archive alone; can be made again
    "replays",
    metadata,
    _id(),
    Column("capture_id", Uuid, nullable=False),
    Column("checked_at", TIME, nullable=False),
    Column("browser", Text, nullable=False),
    Column("text_ratio", Float),
    Column("dom_equal", Boolean),
    Column("asked", Integer, nullable=False),
    Column("found", Integer, nullable=False),
    Column("alike", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("unasked", Integer, nullable=False),
    Column("picture_bits", Integer),
    Column("score", Float, nullable=False),
    Column("bad", Boolean, nullable=False),
    Column("detail", JSONB, nullable=False),
    Index("replays_capture_id_idx", "capture_id", "checked_at"),
    Index("replays_checked_at_idx", "checked_at"),
)
