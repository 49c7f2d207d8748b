"""Add who may answer a question of a run. A question of an older worker has no limit."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("waits", sa.Column("answerers", sa.JSON))


def downgrade() -> None:
    op.drop_column("waits", "answerers")
