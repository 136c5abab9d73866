"""The chain of events: who did what to which digest (storage/events.py)."""

from sqlalchemy import BigInteger, Column, Index, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, Sha256, metadata

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
