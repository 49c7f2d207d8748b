"""Add the number of bytes that a run has stored."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A constant default is not written into the rows. Runs of earlier releases count from here on.
    op.execute("ALTER TABLE runs ADD COLUMN stored_bytes bigint NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.drop_column("runs", "stored_bytes")
