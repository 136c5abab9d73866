"""Notes for the next visits, and what can be made again from the archive: none of it is evidence."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, PrimaryKeyConstraint, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from storage.schema.columns import TIME, Sha256, id_column, metadata

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

replays = Table(  # how a capture looked when it was shown from the archive alone; can be made again
    "replays",
    metadata,
    id_column(),
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
