"""Add the steps of a checkpoint: the visits of its stretch that have no row of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("steps", sa.LargeBinary()))


def downgrade() -> None:
    op.drop_column("checkpoints", "steps")
