"""Add threads: conversations of runs, and their messages."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_ID = sa.Text(collation="C")
_MOMENT = sa.DateTime(timezone=True)
# As in migration 0029, for the reads of callers.
_SEES_ALL = "NOT current_user::text ^@ 'treadle_reader'"
_POLICIES = {
    "threads": "project_id IN (SELECT unnest(string_to_array(current_setting('treadle.projects', true), ',')))",
    "thread_messages": "EXISTS (SELECT FROM threads WHERE threads.id = thread_messages.thread_id OFFSET 0)",
}


def upgrade() -> None:
    op.create_table(
        "threads",
        sa.Column("id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_threads"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE", name="fk_threads_project_id"),
        sa.UniqueConstraint("project_id", "key", name="uq_threads_project_id_key"),
    )
    op.create_index("ix_threads_project_id_id", "threads", ["project_id", "id"])
    op.create_index("ix_threads_updated_at", "threads", ["updated_at"])
    op.create_table(
        "thread_messages",
        sa.Column("thread_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run_id", _ID, nullable=False),
        sa.Column("run_seq", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("thread_id", "number", name="pk_thread_messages"),
        sa.ForeignKeyConstraint(
            ["thread_id"], ["threads.id"], ondelete="CASCADE", name="fk_thread_messages_thread_id"
        ),
    )
    op.create_index("ix_thread_messages_run_id", "thread_messages", ["run_id", "run_seq"])
    for table, condition in _POLICIES.items():
        op.execute(f"CREATE POLICY of_caller ON {table} USING ({condition} OR {_SEES_ALL})")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("thread_messages")
    op.drop_table("threads")
