"""What was captured, and the records that hold its bytes.

No foreign keys: both tables are the hot path (10 million rows), only appended, and a browser's records are committed before the
capture that they end in.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, Uuid, text

from storage.schema.columns import TIME, Sha256, id_column, metadata

captures = Table(
    "captures",
    metadata,
    id_column(),
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
    id_column(),
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
