"""The sources, the runs that visit them, and the ids of channels that a run looked for and did not see."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, count_column, id_column, metadata

SUCCESS = "outcome IN ('complete', 'partial') AND captured > 0"  # a run that brought something of its source

sources = Table(
    "sources",
    metadata,
    id_column(),
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
    id_column(),
    Column("source_id", Uuid, ForeignKey("sources.id", name="runs_source_id_fkey"), nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("ended_at", TIME),
    Column("outcome", Text),
    Column("attempt", Integer, nullable=False, server_default=text("1")),
    *(count_column(name) for name in ("wanted", "captured", "refused", "truncated", "failed", "revisits", "similar")),
    *(count_column(name) for name in ("gaps", "not_offered", "posts", "media")),
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
