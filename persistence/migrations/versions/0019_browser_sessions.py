"""Add the sign-in sessions of browsers."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_SESSIONS = """
CREATE TABLE browser_sessions (
    id text COLLATE "C" PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,
    subject text NOT NULL,
    roles json NOT NULL,
    expires_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    refresh_key_id text,
    refresh_token bytea,
    renewal_claimed_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""


def upgrade() -> None:
    op.execute(sa.text(_SESSIONS))
    op.create_index("ix_browser_sessions_ends_at", "browser_sessions", ["ends_at"])


def downgrade() -> None:
    op.drop_table("browser_sessions")
