"""Replay checks: how near to what was seen live a capture is when it is shown from the archive alone."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = depends_on = None

TABLE = """
CREATE TABLE replays (
    id UUID NOT NULL, capture_id UUID NOT NULL, checked_at TIMESTAMPTZ NOT NULL, browser TEXT NOT NULL,
    text_ratio FLOAT, dom_equal BOOLEAN, asked INTEGER NOT NULL, found INTEGER NOT NULL, alike INTEGER NOT NULL,
    missing INTEGER NOT NULL, unasked INTEGER NOT NULL, picture_bits INTEGER, score FLOAT NOT NULL, bad BOOLEAN NOT NULL,
    detail JSONB NOT NULL, PRIMARY KEY (id)
)
"""


def upgrade() -> None:
    """Make the table."""
    op.execute(TABLE)
    op.execute("CREATE INDEX replays_capture_id_idx ON replays (capture_id, checked_at)")
    op.execute("CREATE INDEX replays_checked_at_idx ON replays (checked_at)")


def downgrade() -> None:
    """Take it away: a check can be made again."""
    op.execute("DROP TABLE replays")
