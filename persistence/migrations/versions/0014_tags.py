"""Add tags of runs, and the indexes of the filters by tag and error code."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE runs ADD COLUMN tags text[] NOT NULL DEFAULT '{}'")
    op.execute("CREATE INDEX ix_runs_tags ON runs USING gin (tags) WHERE tags <> '{}'")
    op.execute("CREATE INDEX ix_runs_error_code ON runs ((error->>'code'), id) WHERE error IS NOT NULL")


def downgrade() -> None:
    op.drop_index("ix_runs_error_code", "runs")
    op.drop_index("ix_runs_tags", "runs")
    op.drop_column("runs", "tags")
