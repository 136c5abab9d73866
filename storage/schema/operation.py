"""How the service itself does: its machines, their troubles, and what it has counted."""

from sqlalchemy import BigInteger, Column, Index, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, id_column, metadata

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
    id_column(),
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
