"""Indexes for what lists are narrowed by, and which item an output of a map is of."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FILTERS = (("project_id", "status", "id"), ("project_id", "source", "id"), ("workflow_id", "status", "id"))
"""Few of a million runs are found without looking at the others."""


def upgrade() -> None:
    for columns in _FILTERS:
        op.create_index(f"ix_runs_{'_'.join(columns)}", "runs", list(columns))
    # The table is empty: nothing has written to it before this.
    op.add_column("map_items", sa.Column("digest", sa.BigInteger(), nullable=False))


def downgrade() -> None:
    op.drop_column("map_items", "digest")
    for columns in _FILTERS:
        op.drop_index(f"ix_runs_{'_'.join(columns)}", table_name="runs")
