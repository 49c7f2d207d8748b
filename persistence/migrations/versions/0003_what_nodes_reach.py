"""Add secrets, usage and cost of models, scopes for tools, child runs and items of maps."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.Text(collation="C")
_MOMENT = sa.DateTime(timezone=True)
_IS_CHILD = sa.text("parent_id IS NOT NULL AND status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CANCELLING')")
_HAS_PARENT = sa.text("parent_id IS NOT NULL")


def upgrade() -> None:
    op.add_column("runs", sa.Column("scopes", sa.ARRAY(sa.Text()), server_default="{}", nullable=False))
    op.add_column("runs", sa.Column("parent_key", sa.Text()))
    op.add_column("runs", sa.Column("depth", sa.SmallInteger(), server_default="0", nullable=False))
    op.drop_index("ix_runs_parent_id", table_name="runs", postgresql_where=_HAS_PARENT)
    op.create_index("uq_runs_parent", "runs", ["parent_id", "parent_key"], unique=True, postgresql_where=_HAS_PARENT)
    op.create_index("ix_runs_children", "runs", ["parent_id"], postgresql_where=_IS_CHILD)
    op.add_column("node_states", sa.Column("usage", sa.JSON()))
    op.add_column("waits", sa.Column("child_run_id", _ID))
    waited_for = sa.text("child_run_id IS NOT NULL AND answered_at IS NULL")
    op.create_index("ix_waits_child_run_id", "waits", ["child_run_id"], postgresql_where=waited_for)
    _map_items()
    _secrets()


def _map_items() -> None:
    op.create_table(
        "map_items",
        sa.Column("run_id", _ID, nullable=False),
        sa.Column("lineage", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("visit", sa.Integer(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("output", sa.JSON()),
        sa.Column("error", sa.JSON()),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_map_items_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "lineage", "node_id", "visit", "idx", name="pk_map_items"),
    )


def _secrets() -> None:
    op.create_table(
        "secrets",
        sa.Column("id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("last_used_at", _MOMENT),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_secrets_project_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
        sa.UniqueConstraint("project_id", "name", name="uq_secrets_project_id_name"),
    )


def downgrade() -> None:
    op.drop_table("secrets")
    op.drop_table("map_items")
    op.drop_index("ix_waits_child_run_id", table_name="waits")
    op.drop_column("waits", "child_run_id")
    op.drop_column("node_states", "usage")
    op.drop_index("ix_runs_children", table_name="runs")
    op.drop_index("uq_runs_parent", table_name="runs")
    op.create_index("ix_runs_parent_id", "runs", ["parent_id"], postgresql_where=_HAS_PARENT)
    for name in ("depth", "parent_key", "scopes"):
        op.drop_column("runs", name)
