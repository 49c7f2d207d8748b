"""Add run control and recovery: waits, concurrency keys, lineages, presence of workers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.Text(collation="C")
_MOMENT = sa.DateTime(timezone=True)
_QUEUED = sa.text("status = 'QUEUED'")
_HELD = sa.text("status IN ('RUNNING', 'PAUSING', 'CANCELLING')")


def upgrade() -> None:
    _runs()
    _superseded()
    op.create_table(
        "waits",
        sa.Column("id", _ID, nullable=False),
        sa.Column("run_id", _ID, nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=False),
        sa.Column("lineage", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("since", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("until", _MOMENT),
        sa.Column("outcome", sa.JSON()),
        sa.Column("prompt", sa.JSON()),
        sa.Column("schema", sa.JSON()),
        sa.Column("answer", sa.JSON()),
        sa.Column("answered_at", _MOMENT),
        sa.Column("answered_by", sa.Text()),
        sa.Column("settled_seq", sa.Integer()),
        sa.Column("superseded_seq", sa.Integer()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_waits_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_waits"),
    )
    op.create_index("ix_waits_run_id", "waits", ["run_id"])
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("lock_key", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
        sa.UniqueConstraint("lock_key", name="uq_workers_lock_key"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_index("ix_idempotency_keys_run_id", "idempotency_keys", ["run_id"])


def _runs() -> None:
    for column in (
        sa.Column("crashes", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("crashed_seq", sa.Integer()),
        sa.Column("lane", _ID),
        sa.Column("lane_limit", sa.Integer()),
        sa.Column("wake_at", _MOMENT),
        sa.Column("timeout_at", _MOMENT),
        sa.Column("resumed_step", sa.Integer(), server_default="-1", nullable=False),
        sa.Column("is_step", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("pruned_at", _MOMENT),
        sa.Column("written_seq", sa.Integer()),
    ):
        op.add_column("runs", column)
    op.execute("UPDATE runs SET lane = project_id")
    op.alter_column("runs", "lane", nullable=False)
    forked = sa.text("forked_from_id IS NOT NULL")
    op.create_index("ix_runs_forked_from_id", "runs", ["forked_from_id"], postgresql_where=forked)
    queue = ["lane", sa.text("priority DESC"), "queued_at", "id"]
    op.create_index("ix_runs_queue", "runs", queue, postgresql_where=_QUEUED)
    limited = sa.text("status = 'QUEUED' AND lane_limit IS NOT NULL")
    op.create_index("ix_runs_limited", "runs", ["lane"], postgresql_where=limited)
    prunable = sa.text("finished_at IS NOT NULL AND pruned_at IS NULL")
    op.create_index("ix_runs_prunable", "runs", ["finished_at"], postgresql_where=prunable)
    over = sa.text("finished_at IS NOT NULL")
    op.create_index("ix_runs_finished_at", "runs", ["finished_at"], postgresql_where=over)
    op.create_index("ix_runs_held", "runs", ["lane"], postgresql_where=_HELD)
    op.create_index("ix_runs_wake_at", "runs", ["wake_at"], postgresql_where=sa.text("status = 'WAITING'"))
    started = sa.text("status IN ('QUEUED', 'WAITING') AND timeout_at IS NOT NULL")
    op.create_index("ix_runs_timeout_at", "runs", ["timeout_at"], postgresql_where=started)
    resting = sa.text("status IN ('PENDING', 'PAUSED', 'WAITING')")
    op.create_index("ix_runs_deadline_at", "runs", ["deadline_at"], postgresql_where=resting)


def _superseded() -> None:
    for table in ("node_outputs", "checkpoints"):
        op.add_column(table, sa.Column("superseded_seq", sa.Integer()))
    op.drop_column("node_outputs", "is_superseded")
