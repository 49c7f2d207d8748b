"""Partition events, outputs and checkpoints by ranges of `run_id`.

The tables as they are become the partitions `<table>_before`; nothing is copied. `migrate` has
validated a constraint before, so that Postgres need not read them here (`db/online_steps.py`). Workers
create the partitions of later times.
"""

from alembic import op
from sqlalchemy import text

from persistence.db.online_steps import end_of_range
from persistence.db.partitions import PARTITIONED

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in PARTITIONED:
        before = f"{table}_before"
        op.execute(f"ALTER TABLE {table} RENAME TO {before}")
        op.execute(f"ALTER TABLE {before} RENAME CONSTRAINT pk_{table} TO pk_{before}")
        op.execute(
            f"CREATE TABLE {table} (LIKE {before} INCLUDING DEFAULTS, CONSTRAINT pk_{table} PRIMARY KEY (run_id, seq)) "
            "PARTITION BY RANGE (run_id)"
        )
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
        _attach(table, before)
    op.execute("CREATE UNIQUE INDEX uq_checkpoints_default_id ON checkpoints_default (id)")


def _attach(table: str, before: str) -> None:
    """Attach the table as it was as a partition, or drop it if it is empty."""
    connection = op.get_bind()
    now, last = connection.execute(text(f"SELECT now(), (SELECT max(run_id) FROM {before})")).one()
    if last is None:
        op.execute(f"DROP TABLE {before}")
        return
    definition = connection.execute(
        text("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = :name"), {"name": before}
    ).scalar()
    end = definition.split("'")[1] if definition else end_of_range(now, last)
    op.execute(f"ALTER TABLE {table} ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ('{end}')")
    op.execute(f"ALTER TABLE {before} DROP CONSTRAINT IF EXISTS {before}")


def downgrade() -> None:
    for table in PARTITIONED:
        op.execute(f"ALTER TABLE {table} RENAME TO {table}_parts")
        op.execute(f"ALTER TABLE {table}_parts RENAME CONSTRAINT pk_{table} TO pk_{table}_parts")
        op.execute(
            f"CREATE TABLE {table} (LIKE {table}_parts INCLUDING DEFAULTS, CONSTRAINT pk_{table} PRIMARY KEY (run_id, seq))"
        )
        op.execute(f"INSERT INTO {table} SELECT * FROM {table}_parts")
        op.execute(f"DROP TABLE {table}_parts")
    op.create_unique_constraint("uq_checkpoints_id", "checkpoints", ["id"])
