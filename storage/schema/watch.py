"""How sources are watched: schedules, what is due, each visit, and the words that are looked for."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, id_column, metadata

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
    id_column(),
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

watch_lists = Table(  # words to look for; the highest version of a name and language holds
    "watch_lists",
    metadata,
    Column("name", Text, primary_key=True),
    Column("language", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("words", JSONB, nullable=False),
    Column("changed_at", TIME, nullable=False),
)
