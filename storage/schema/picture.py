"""The perceptual hashes of pictures, and which of them are near to each other."""

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table, Text, Uuid

from storage.schema.columns import Sha256, id_column, metadata

fingerprints = Table(
    "fingerprints",
    metadata,
    id_column(),
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
