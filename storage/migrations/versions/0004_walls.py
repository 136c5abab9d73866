"""Walls: which hosts refused us lately, by the way out and the fetcher; the identity that a source is seen by."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = depends_on = None


def upgrade() -> None:
    """Make the table and the column."""
    op.execute("ALTER TABLE watches ADD COLUMN identity TEXT")
    op.execute(
        "CREATE TABLE walls (host TEXT NOT NULL, exit TEXT NOT NULL, fetcher TEXT NOT NULL, verdict TEXT NOT NULL, "
        "reason TEXT, since TIMESTAMPTZ NOT NULL, last_at TIMESTAMPTZ NOT NULL, count BIGINT NOT NULL, "
        "CONSTRAINT walls_pkey PRIMARY KEY (host, exit, fetcher, verdict))"
    )
    op.execute("CREATE INDEX walls_last_at_idx ON walls (last_at)")


def downgrade() -> None:
    """Refuse: a source would be visited as nobody, or by nobody."""
    raise NotImplementedError("identities are not taken away; restore a backup of the database instead")
