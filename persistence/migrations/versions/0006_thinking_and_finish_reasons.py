"""Add the thinking of models and the finish reason of their answers to the states of nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("thinking", "finish_reason"):
        op.add_column("node_states", sa.Column(name, sa.Text()))


def downgrade() -> None:
    for name in ("finish_reason", "thinking"):
        op.drop_column("node_states", name)
