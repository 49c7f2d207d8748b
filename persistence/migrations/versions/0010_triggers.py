"""Add triggers, their events, pending firings, and the trigger of a run."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE triggers (
    id text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    workflow_id text COLLATE "C" NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    kind text NOT NULL,
    name text NOT NULL,
    config json NOT NULL,
    inputs json NOT NULL,
    enabled boolean NOT NULL,
    created_by text NOT NULL,
    scopes text[] NOT NULL,
    planned_at timestamptz,
    next_fire_at timestamptz,
    last_fired_at timestamptz,
    last_error text,
    failures integer NOT NULL DEFAULT 0,
    state json,
    idempotency_key text,
    idempotency_hash text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_triggers_project_id_id ON triggers (project_id, id);
CREATE INDEX ix_triggers_workflow_id_id ON triggers (workflow_id, id);
CREATE INDEX ix_triggers_next_fire_at ON triggers (next_fire_at) WHERE enabled AND next_fire_at IS NOT NULL;
CREATE UNIQUE INDEX uq_triggers_project_id_idempotency_key ON triggers (project_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE TABLE trigger_events (
    id text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    trigger_id text COLLATE "C" NOT NULL REFERENCES triggers (id) ON DELETE CASCADE,
    dedupe_key text NOT NULL,
    payload json NOT NULL,
    status text NOT NULL,
    run_id text COLLATE "C" REFERENCES runs (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
    error text,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_trigger_events_trigger_id_id ON trigger_events (trigger_id, id);
CREATE INDEX ix_trigger_events_run_id ON trigger_events (run_id) WHERE run_id IS NOT NULL;
CREATE UNIQUE INDEX uq_trigger_events_trigger_id_dedupe_key ON trigger_events (trigger_id, dedupe_key)
    WHERE status = 'FIRED';
CREATE TABLE pending_firings (
    trigger_id text COLLATE "C" NOT NULL REFERENCES triggers (id) ON DELETE CASCADE,
    dedupe_key text NOT NULL,
    payload json NOT NULL,
    fire_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (trigger_id, dedupe_key)
);
CREATE INDEX ix_pending_firings_fire_at ON pending_firings (fire_at);
ALTER TABLE runs ADD COLUMN trigger_id text COLLATE "C";
CREATE INDEX ix_runs_trigger_id_id ON runs (trigger_id, id) WHERE trigger_id IS NOT NULL;
CREATE INDEX ix_runs_triggered ON runs (trigger_id)
    WHERE trigger_id IS NOT NULL AND status NOT IN ('CANCELLED', 'COMPLETED', 'FAILED')
"""


def upgrade() -> None:
    for statement in _TABLES.split(";"):
        op.execute(sa.text(statement))


def downgrade() -> None:
    op.drop_column("runs", "trigger_id")
    op.drop_table("pending_firings")
    op.drop_table("trigger_events")
    op.drop_table("triggers")
