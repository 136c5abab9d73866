"""The journal: which entries of the WARCs the catalogue has been told, and the order of all entries."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = depends_on = None


def upgrade() -> None:
    """Make the table and the sequence of places."""
    op.execute("CREATE SEQUENCE journal_place AS BIGINT")
    op.execute(
        "CREATE TABLE journal (record_id UUID NOT NULL, run_id UUID NOT NULL, kind TEXT NOT NULL, "
        "place BIGINT NOT NULL, PRIMARY KEY (record_id))"
    )
    op.execute("CREATE INDEX journal_run_id_idx ON journal (run_id)")


def downgrade() -> None:
    """Refuse: an older program would tell the catalogue what the journal does not know."""
    raise NotImplementedError("the journal is not taken away; go back by `osint rebuild` into a fresh database")
