"""Add idempotency keys of mutations that start no run."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_TABLE = """
CREATE TABLE mutation_keys (
    subject text NOT NULL,
    key text NOT NULL,
    project_id text COLLATE "C" NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    arguments_hash text NOT NULL,
    resource_id text COLLATE "C" NOT NULL,
    facts json NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subject, key)
)
"""


def upgrade() -> None:
    op.execute(sa.text(_TABLE))
    op.create_index("ix_mutation_keys_created_at", "mutation_keys", ["created_at"])
    op.create_index("ix_mutation_keys_project_id", "mutation_keys", ["project_id"])


def downgrade() -> None:
    op.drop_table("mutation_keys")
