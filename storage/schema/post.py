"""What was read from captures: posts, their versions, the captures that each was read from, and their files."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

from storage.schema.columns import TIME, Sha256, id_column, metadata

# NFC, so that й is one letter however it was typed; without stress marks, soft hyphens, zero-width marks and
# apostrophes, which would cut a word in two ("сям’я"). Words beyond the first 100,000 letters are not found.
PLAIN = r"regexp_replace(normalize({0}, NFC), '[\u0301\u00AD\u200B-\u200D\u2060\uFEFF''’ʼ`]', '', 'g')"
WORDS = "to_tsvector('simple', " + PLAIN.format("left(coalesce(title, '') || ' ' || text, 100000)") + ")"
TITLE_WORDS = "to_tsvector('simple', " + PLAIN.format("left(title, 100000)") + ")"

posts = Table(
    "posts",
    metadata,
    id_column(),
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
    id_column(),
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
    id_column(),
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
