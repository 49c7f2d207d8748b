"""Add the tokens of webhooks, and the requests to them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TOKENS = ("webhook_token", "previous_token", "test_token")
_DELIVERIES = """
CREATE TABLE webhook_deliveries (
    id text COLLATE "C" PRIMARY KEY,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    trigger_id text COLLATE "C" NOT NULL REFERENCES triggers (id) ON DELETE CASCADE,
    event_id text COLLATE "C",
    method text NOT NULL,
    headers json NOT NULL,
    query json NOT NULL,
    body bytea NOT NULL,
    address text,
    verdict text NOT NULL,
    message_id text,
    is_test boolean NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
)
"""


def upgrade() -> None:
    for name in _TOKENS:
        op.add_column("triggers", sa.Column(name, sa.Text()))
        op.execute(f"CREATE UNIQUE INDEX uq_triggers_{name} ON triggers ({name}) WHERE {name} IS NOT NULL")
    op.add_column("triggers", sa.Column("previous_until", sa.DateTime(timezone=True)))
    op.execute(sa.text(_DELIVERIES))
    op.create_index("ix_webhook_deliveries_trigger_id_id", "webhook_deliveries", ["trigger_id", "id"])


def downgrade() -> None:
    op.drop_table("webhook_deliveries")
    for name in (*_TOKENS, "previous_until"):
        op.drop_column("triggers", name)
