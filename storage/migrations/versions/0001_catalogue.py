"""The catalogue's first tables. Written out, so that later changes of storage/schema do not change this step."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = r"""
CREATE TABLE sources (
    id UUID NOT NULL, slug TEXT NOT NULL, url TEXT NOT NULL, spider TEXT NOT NULL, render TEXT, robots TEXT,
    robots_reason TEXT, proxy TEXT, created_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (id),
    CONSTRAINT sources_slug_key UNIQUE (slug), CONSTRAINT sources_url_spider_key UNIQUE (url, spider)
);
CREATE TABLE runs (
    id UUID NOT NULL, source_id UUID NOT NULL, started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ, outcome TEXT, attempt INTEGER DEFAULT 1 NOT NULL,
    wanted INTEGER DEFAULT 0 NOT NULL, captured INTEGER DEFAULT 0 NOT NULL, refused INTEGER DEFAULT 0 NOT NULL,
    truncated INTEGER DEFAULT 0 NOT NULL, failed INTEGER DEFAULT 0 NOT NULL, revisits INTEGER DEFAULT 0 NOT NULL,
    "similar" INTEGER DEFAULT 0 NOT NULL, gaps INTEGER DEFAULT 0 NOT NULL, not_offered INTEGER DEFAULT 0 NOT NULL,
    posts INTEGER DEFAULT 0 NOT NULL, media INTEGER DEFAULT 0 NOT NULL, bytes BIGINT DEFAULT 0 NOT NULL,
    reason TEXT, versions JSONB DEFAULT '{}' NOT NULL, detail JSONB DEFAULT '{}' NOT NULL, process TEXT,
    PRIMARY KEY (id), CONSTRAINT runs_source_id_fkey FOREIGN KEY(source_id) REFERENCES sources (id)
);
CREATE INDEX runs_source_id_started_at_idx ON runs (source_id, started_at);
CREATE INDEX runs_unfinished_idx ON runs (started_at) WHERE ended_at IS NULL;
CREATE TABLE captures (
    id UUID NOT NULL, run_id UUID NOT NULL, source_id UUID NOT NULL, url TEXT NOT NULL, final_url TEXT,
    kind TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, verdict TEXT, status INTEGER, media_type TEXT,
    captured_at TIMESTAMPTZ NOT NULL, payload_sha256 BYTEA, payload_bytes BIGINT, parent UUID,
    truncated TEXT, PRIMARY KEY (id)
);
CREATE INDEX captures_parent_idx ON captures (parent) WHERE parent IS NOT NULL;
CREATE INDEX captures_run_id_idx ON captures (run_id);
CREATE INDEX captures_source_id_captured_at_idx ON captures (source_id, captured_at);
CREATE INDEX captures_captured_at_idx ON captures (captured_at);
CREATE INDEX captures_url_idx ON captures (left(url, 400) text_pattern_ops);
CREATE INDEX captures_final_url_idx ON captures (left(final_url, 400) text_pattern_ops) WHERE final_url <> url;
CREATE TABLE records (
    id UUID NOT NULL, capture_id UUID, run_id UUID NOT NULL, type TEXT NOT NULL, url TEXT NOT NULL,
    date TEXT NOT NULL, status INTEGER, media_type TEXT, warc TEXT NOT NULL, offset_bytes BIGINT NOT NULL,
    length_bytes BIGINT NOT NULL, record_sha256 BYTEA NOT NULL, block_sha256 BYTEA NOT NULL, payload_sha256 BYTEA,
    payload_bytes BIGINT, concurrent_to UUID, refers_to UUID, truncated TEXT, PRIMARY KEY (id)
);
CREATE INDEX records_capture_id_idx ON records (capture_id);
CREATE INDEX records_original_idx ON records (payload_sha256) WHERE type = 'response' AND truncated IS NULL AND payload_sha256 IS NOT NULL;
CREATE INDEX records_run_id_idx ON records (run_id);
CREATE INDEX records_warc_idx ON records (warc);
CREATE TABLE posts (
    id UUID NOT NULL, source_id UUID NOT NULL, kind TEXT NOT NULL, platform TEXT NOT NULL, channel TEXT,
    channel_id TEXT,
    channel_key TEXT GENERATED ALWAYS AS (coalesce(channel_id, lower(channel), '')) STORED NOT NULL,
    post_id TEXT NOT NULL, url TEXT NOT NULL, first_seen TIMESTAMPTZ NOT NULL, PRIMARY KEY (id),
    CONSTRAINT posts_platform_channel_key_post_id_key UNIQUE (platform, channel_key, post_id),
    CONSTRAINT posts_source_id_fkey FOREIGN KEY(source_id) REFERENCES sources (id)
);
CREATE INDEX posts_source_id_idx ON posts (source_id);
CREATE INDEX posts_url_idx ON posts (left(url, 400) text_pattern_ops);
CREATE TABLE post_versions (
    id UUID NOT NULL, post_id UUID NOT NULL, version INTEGER NOT NULL, content_sha256 BYTEA NOT NULL, author TEXT,
    title TEXT, text TEXT NOT NULL, language TEXT, published_at TIMESTAMPTZ, published_raw TEXT,
    edited BOOLEAN NOT NULL, views BIGINT, views_raw TEXT, forwarded_from JSONB, reply_to JSONB,
    links JSONB NOT NULL, service BOOLEAN NOT NULL, post_ids JSONB NOT NULL, extra JSONB NOT NULL,
    first_seen TIMESTAMPTZ NOT NULL, last_seen TIMESTAMPTZ NOT NULL,
    words TSVECTOR GENERATED ALWAYS AS (to_tsvector('simple', regexp_replace(normalize(left(coalesce(title, '') || ' ' || text, 100000), NFC), '[\u0301\u00AD\u200B-\u200D\u2060\uFEFF''’ʼ`]', '', 'g'))) STORED,
    PRIMARY KEY (id), CONSTRAINT post_versions_post_id_version_key UNIQUE (post_id, version),
    CONSTRAINT post_versions_post_id_fkey FOREIGN KEY(post_id) REFERENCES posts (id)
);
CREATE INDEX post_versions_when_idx ON post_versions (coalesce(published_at, first_seen));
CREATE INDEX post_versions_words_idx ON post_versions USING gin (words);
CREATE TABLE version_captures (
    version_id UUID NOT NULL, capture_id UUID NOT NULL,
    CONSTRAINT version_captures_pkey PRIMARY KEY (version_id, capture_id),
    CONSTRAINT version_captures_version_id_fkey FOREIGN KEY(version_id) REFERENCES post_versions (id)
);
CREATE INDEX version_captures_capture_id_idx ON version_captures (capture_id);
CREATE TABLE media (
    id UUID NOT NULL, post_version_id UUID, capture_id UUID, place INTEGER NOT NULL, item_id TEXT,
    kind TEXT NOT NULL, url TEXT, file_capture_id UUID, state TEXT NOT NULL, why TEXT, payload_sha256 BYTEA, duration_seconds FLOAT, title TEXT,
    PRIMARY KEY (id),
    CONSTRAINT media_post_version_id_fkey FOREIGN KEY(post_version_id) REFERENCES post_versions (id)
);
CREATE INDEX media_capture_id_idx ON media (capture_id);
CREATE INDEX media_file_capture_id_idx ON media (file_capture_id);
CREATE INDEX media_title_idx ON media USING gin (to_tsvector('simple', regexp_replace(normalize(left(title, 100000), NFC), '[\u0301\u00AD\u200B-\u200D\u2060\uFEFF''’ʼ`]', '', 'g'))) WHERE title IS NOT NULL;
CREATE INDEX media_post_version_id_idx ON media (post_version_id);
CREATE TABLE fingerprints (
    id UUID NOT NULL, capture_id UUID, record_id UUID, payload_sha256 BYTEA NOT NULL, algorithm TEXT NOT NULL,
    version TEXT NOT NULL, hash BIGINT, failure TEXT, width INTEGER, height INTEGER, PRIMARY KEY (id)
);
CREATE INDEX fingerprints_capture_id_idx ON fingerprints (capture_id);
CREATE INDEX fingerprints_payload_sha256_idx ON fingerprints (payload_sha256);
CREATE TABLE "similar" (
    fingerprint_id UUID NOT NULL, earlier_id UUID NOT NULL, distance INTEGER NOT NULL,
    CONSTRAINT similar_pkey PRIMARY KEY (fingerprint_id, earlier_id),
    CONSTRAINT similar_fingerprint_id_fkey FOREIGN KEY(fingerprint_id) REFERENCES fingerprints (id),
    CONSTRAINT similar_earlier_id_fkey FOREIGN KEY(earlier_id) REFERENCES fingerprints (id)
);
CREATE INDEX similar_earlier_id_idx ON "similar" (earlier_id);
CREATE TABLE warc_files (
    name TEXT NOT NULL, run_id UUID NOT NULL, state TEXT NOT NULL, path TEXT, key TEXT, size_bytes BIGINT,
    sha256 BYTEA, records INTEGER, sealed_at TIMESTAMPTZ, preserved_at TIMESTAMPTZ,
    version_id TEXT, manifest_sha256 BYTEA, PRIMARY KEY (name)
);
CREATE INDEX warc_files_run_id_idx ON warc_files (run_id);
CREATE INDEX warc_files_state_idx ON warc_files (state) WHERE state <> 'preserved';
CREATE TABLE events (
    id BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    sha256 BYTEA, detail JSONB NOT NULL, previous_sha256 BYTEA NOT NULL, event_sha256 BYTEA NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX events_subject_idx ON events (subject);
CREATE TABLE gaps (
    run_id UUID NOT NULL, source_id UUID NOT NULL, channel TEXT, first BIGINT NOT NULL, last BIGINT NOT NULL
);
CREATE INDEX gaps_run_id_idx ON gaps (run_id);
CREATE INDEX gaps_source_id_idx ON gaps (source_id);
"""


def upgrade() -> None:
    """Make the tables and their indexes."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Refuse: going back would throw the catalogue away."""
    raise NotImplementedError("the first tables are not taken away; drop the database instead")
