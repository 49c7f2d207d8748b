"""Add events that are sent to runs, and the waits for them."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_SIGNALS = """
CREATE TABLE signals (
    id text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    run_id text COLLATE "C" REFERENCES runs (id) ON DELETE CASCADE,
    workflow_id text COLLATE "C" REFERENCES workflows (id) ON DELETE CASCADE,
    name text NOT NULL,
    key text,
    node_id text,
    visit integer,
    payload json NOT NULL,
    status text NOT NULL,
    error text,
    sent_by text NOT NULL,
    idempotency_key text,
    arguments_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
)
"""


def upgrade() -> None:
    op.execute(sa.text(_SIGNALS))
    op.create_index("ix_signals_run_id_id", "signals", ["run_id", "id"], postgresql_where=sa.text("run_id IS NOT NULL"))
    op.create_index(
        "ix_signals_workflow_id_key",
        "signals",
        ["workflow_id", "key", "name"],
        postgresql_where=sa.text("workflow_id IS NOT NULL"),
    )
    op.create_index("ix_signals_kept", "signals", ["id"], postgresql_where=sa.text("status = 'KEPT'"))
    op.create_index("ix_signals_project_id", "signals", ["project_id"])
    op.create_index(
        "uq_signals_project_id_idempotency_key",
        "signals",
        ["project_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    for name in ("event_name", "event_key"):
        op.add_column("waits", sa.Column(name, sa.Text()))
    op.add_column("waits", sa.Column("signal_id", sa.Text(collation="C")))
    op.create_index(
        "ix_waits_event_key",
        "waits",
        ["event_key", "event_name"],
        postgresql_where=sa.text("event_key IS NOT NULL AND settled_seq IS NULL AND superseded_seq IS NULL"),
    )
    op.add_column("waits", sa.Column("is_unmatched", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_waits_unmatched", "waits", ["id"], postgresql_where=sa.text("is_unmatched"))
    op.create_index("ix_waits_signal_id", "waits", ["signal_id"], postgresql_where=sa.text("signal_id IS NOT NULL"))


def downgrade() -> None:
    for name in ("event_name", "event_key", "signal_id", "is_unmatched"):
        op.drop_column("waits", name)
    op.drop_table("signals")
