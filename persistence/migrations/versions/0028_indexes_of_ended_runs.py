"""Replace the indexes with all statuses by indexes of ended and of idle runs.

A run has at least three statuses, and each one was an entry of both indexes. Only the last one is read
for long. Queries of the statuses between use `ix_runs_active`.
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_ENDED = "('CANCELLED', 'COMPLETED', 'FAILED')"
_IDLE = "('PAUSED', 'PENDING', 'WAITING')"


_LOCK = "LOCK TABLE runs IN ACCESS EXCLUSIVE MODE"
"""The lock that DROP INDEX needs. CREATE INDEX takes a weaker one first, which would lead to deadlocks."""


def upgrade() -> None:
    op.execute(_LOCK)
    op.execute(
        f"CREATE INDEX ix_runs_project_id_ended ON runs (project_id, status, id) WHERE status IN {_ENDED}"
    )
    op.execute(
        f"CREATE INDEX ix_runs_workflow_id_ended ON runs (workflow_id, status, id) WHERE status IN {_ENDED}"
    )
    op.execute(f"CREATE INDEX ix_runs_project_id_idle ON runs (project_id, status, id) WHERE status IN {_IDLE}")
    op.drop_index("ix_runs_project_id_status_id", "runs")
    op.drop_index("ix_runs_workflow_id_status_id", "runs")


def downgrade() -> None:
    op.execute(_LOCK)
    op.create_index("ix_runs_project_id_status_id", "runs", ["project_id", "status", "id"])
    op.create_index("ix_runs_workflow_id_status_id", "runs", ["workflow_id", "status", "id"])
    for name in ("project_id_idle", "workflow_id_ended", "project_id_ended"):
        op.drop_index(f"ix_runs_{name}", "runs")
