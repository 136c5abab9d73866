"""The journal: which entries of the WARCs the catalogue has been told, and the order of all entries."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = depends_on = None


COUNTERS = (
    "wanted", "captured", "refused", "truncated", "failed", "revisits", "similar", "gaps", "not_offered", "posts", "media",
)  # fmt: skip


def upgrade() -> None:
    """Make the table and the sequence of places; counters that a hostile page cannot overflow."""
    op.execute("CREATE SEQUENCE journal_place AS BIGINT")
    op.execute(
        "CREATE TABLE journal (record_id UUID NOT NULL, run_id UUID NOT NULL, kind TEXT NOT NULL, "
        "place BIGINT NOT NULL, PRIMARY KEY (record_id))"
    )
    op.execute("CREATE INDEX journal_run_id_idx ON journal (run_id)")
    op.execute("CREATE INDEX journal_place_idx ON journal (place)")
    op.execute("CREATE TABLE rebuilding (since TIMESTAMPTZ NOT NULL)")
    for name in ("fingerprint_id", "earlier_id"):
        op.execute(f'ALTER TABLE "similar" DROP CONSTRAINT similar_{name}_fkey')
    for name in COUNTERS:
        op.execute(f'ALTER TABLE runs ALTER COLUMN "{name}" TYPE BIGINT')


def downgrade() -> None:
    """Refuse: an older program would tell the catalogue what the journal does not know."""
    raise NotImplementedError("the journal is not taken away; go back by `osint rebuild` into a fresh database")
