"""Add API keys: the hash of each key, its role in one project, and when it ends."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(collation="C"), primary_key=True),
        sa.Column(
            "project_id",
            sa.Text(collation="C"),
            sa.ForeignKey("projects.id", ondelete="CASCADE", name="fk_api_keys_project_id_projects"),
            nullable=False,
        ),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", moment),
        sa.Column("last_used_at", moment),
        sa.Column("revoked_at", moment),
        sa.UniqueConstraint("hash", name="uq_api_keys_hash"),
    )
    op.create_index("ix_api_keys_project_id", "api_keys", ["project_id"])


def downgrade() -> None:
    op.drop_table("api_keys")
