"""Watching: how sources are watched, each visit that is due, the queue, machines, alerts; WARCs that several runs share."""

from importlib.resources import files

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = depends_on = None

TABLES = """
CREATE TABLE watches (
    source_id UUID NOT NULL, name TEXT, schedule TEXT, timezone TEXT NOT NULL, jitter_seconds INTEGER NOT NULL,
    catch_up TEXT NOT NULL, priority INTEGER NOT NULL, languages JSONB NOT NULL, tags JSONB NOT NULL,
    limit_pages INTEGER, limit_bytes BIGINT, limit_seconds INTEGER, backfill_pages INTEGER,
    added_at TIMESTAMPTZ NOT NULL, changed_at TIMESTAMPTZ NOT NULL, paused_at TIMESTAMPTZ, paused_why TEXT,
    removed_at TIMESTAMPTZ, PRIMARY KEY (source_id),
    CONSTRAINT watches_source_id_fkey FOREIGN KEY(source_id) REFERENCES sources (id)
);
CREATE TABLE due (
    source_id UUID NOT NULL, at TIMESTAMPTZ NOT NULL, PRIMARY KEY (source_id),
    CONSTRAINT due_source_id_fkey FOREIGN KEY(source_id) REFERENCES sources (id)
);
CREATE INDEX due_at_idx ON due (at);
CREATE TABLE visits (
    id UUID NOT NULL, source_id UUID NOT NULL, host TEXT NOT NULL, due_at TIMESTAMPTZ NOT NULL, why TEXT NOT NULL,
    priority INTEGER NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL, not_before TIMESTAMPTZ NOT NULL,
    run_id UUID, worker TEXT, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, outcome TEXT, reason TEXT,
    detail JSONB NOT NULL, PRIMARY KEY (id), CONSTRAINT visits_source_id_due_at_why_key UNIQUE (source_id, due_at, why),
    CONSTRAINT visits_source_id_fkey FOREIGN KEY(source_id) REFERENCES sources (id)
);
CREATE INDEX visits_open_idx ON visits (host, not_before) WHERE state IN ('due', 'running');
CREATE INDEX visits_due_at_idx ON visits (due_at);
CREATE INDEX visits_run_id_idx ON visits (run_id);
CREATE INDEX visits_started_at_idx ON visits (started_at);
CREATE INDEX visits_ended_at_idx ON visits (ended_at);
CREATE INDEX runs_ended_at_idx ON runs (ended_at);
CREATE INDEX runs_success_idx ON runs (source_id, started_at) WHERE outcome IN ('complete', 'partial') AND captured > 0;
CREATE TABLE totals (name TEXT NOT NULL, label TEXT NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name, label));
CREATE TABLE counted (upto TIMESTAMPTZ NOT NULL, event_id BIGINT NOT NULL);
CREATE TABLE validators (
    source_id UUID NOT NULL, url_sha256 BYTEA NOT NULL, url TEXT NOT NULL, etag TEXT, last_modified TEXT,
    record_id UUID NOT NULL, record_date TEXT NOT NULL, payload_sha256 BYTEA, seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (source_id, url_sha256)
);
CREATE TABLE watch_lists (
    name TEXT NOT NULL, language TEXT NOT NULL, version INTEGER NOT NULL, words JSONB NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL, PRIMARY KEY (name, language, version)
);
CREATE TABLE machines (
    name TEXT NOT NULL, worker TEXT NOT NULL, started_at TIMESTAMPTZ NOT NULL, seen_at TIMESTAMPTZ NOT NULL,
    detail JSONB NOT NULL, PRIMARY KEY (name)
);
CREATE TABLE alerts (
    id UUID NOT NULL, rule TEXT NOT NULL, subject TEXT NOT NULL, severity TEXT NOT NULL, said TEXT NOT NULL,
    began_at TIMESTAMPTZ NOT NULL, told_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, end_told_at TIMESTAMPTZ,
    detail JSONB NOT NULL, PRIMARY KEY (id)
);
CREATE UNIQUE INDEX alerts_open_idx ON alerts (rule, subject) WHERE ended_at IS NULL;
CREATE INDEX alerts_began_at_idx ON alerts (began_at);
CREATE TABLE warc_runs (
    warc TEXT NOT NULL, run_id UUID NOT NULL, offset_bytes BIGINT NOT NULL, machine TEXT,
    CONSTRAINT warc_runs_pkey PRIMARY KEY (warc, run_id)
);
CREATE INDEX warc_runs_run_id_idx ON warc_runs (run_id);
CREATE INDEX captures_missing_idx ON captures (source_id, captured_at) WHERE state <> 'captured';
INSERT INTO warc_runs SELECT name, run_id, 0, NULL FROM warc_files;
"""


def upgrade() -> None:
    """Make the tables and the queue's own (procrastinate 3)."""
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    queue = files("procrastinate.sql").joinpath("schema.sql").read_text("utf-8")
    op.get_bind().connection.cursor().execute(queue)


def downgrade() -> None:
    """Refuse: what is due and what was visited would be forgotten."""
    raise NotImplementedError("visits are not taken away; restore a backup of the database instead")
