"""Replace the indexes with all statuses by indexes of ended and of idle runs.

A run has at least three statuses, and each one was an entry of both indexes. Only the last one is read
for long. Queries of the statuses between use `ix_runs_active`. `migrate` has built the new indexes before,
so that `runs` is locked for a moment only (`db/online_steps.py`).
"""

from alembic import op

from persistence.db.online_steps import INDEXES

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_LOCK = "LOCK TABLE runs IN ACCESS EXCLUSIVE MODE"
"""The lock that DROP INDEX needs. CREATE INDEX takes a weaker one first, which would lead to deadlocks."""


def upgrade() -> None:
    op.execute(_LOCK)
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {definition}")
    op.drop_index("ix_runs_project_id_status_id", "runs")
    op.drop_index("ix_runs_workflow_id_status_id", "runs")


def downgrade() -> None:
    op.execute(_LOCK)
    op.create_index("ix_runs_project_id_status_id", "runs", ["project_id", "status", "id"])
    op.create_index("ix_runs_workflow_id_status_id", "runs", ["workflow_id", "status", "id"])
    for name in INDEXES:
        op.drop_index(name, "runs")
