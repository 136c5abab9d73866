"""The WARCs, the runs that wrote into them, and what of their journals the catalogue has been told."""

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table, Text, Uuid, text

from storage.schema.columns import TIME, Sha256, metadata

warc_files = Table(
    "warc_files",
    metadata,
    Column("name", Text, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("path", Text),
    Column("key", Text),
    Column("size_bytes", BigInteger),
    Column("sha256", Sha256),
    Column("records", Integer),
    Column("sealed_at", TIME),
    Column("preserved_at", TIME),
    Column("version_id", Text),
    Column("manifest_sha256", Sha256),
    Index("warc_files_run_id_idx", "run_id"),
    Index("warc_files_state_idx", "state", postgresql_where=text("state <> 'preserved'")),
)

warc_runs = Table(  # which runs wrote into a WARC; warc_files.run_id is the first of them
    "warc_runs",
    metadata,
    Column("warc", Text),
    Column("run_id", Uuid),
    Column("offset_bytes", BigInteger, nullable=False),  # of the warcinfo record that the run begins with
    Column("machine", Text),  # in whose spool the WARC was written, where that is known
    PrimaryKeyConstraint("warc", "run_id", name="warc_runs_pkey"),
    Index("warc_runs_run_id_idx", "run_id"),
)

journal = Table(  # the entries of WARCs (storage/journal.py) that this catalogue has been told
    "journal",
    metadata,
    Column("record_id", Uuid, primary_key=True),
    Column("run_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("place", BigInteger, nullable=False),
    Index("journal_run_id_idx", "run_id"),
    Index("journal_place_idx", "place"),
)

rebuilding = Table("rebuilding", metadata, Column("since", TIME, nullable=False))  # one row while it is made again
