"""The tables of what happens in runs: many rows a run, deleted with it."""

from sqlalchemy import JSON, Boolean, Column, Double, Integer, LargeBinary, SmallInteger, Table, Text, func

from persistence.db.tables.base import Id, Moment, history_column, metadata, run_column

events = Table(
    "events",
    metadata,
    history_column(),
    Column("seq", Integer, primary_key=True),
    Column("type", Text, nullable=False),
    Column("at", Moment, nullable=False, server_default=func.now()),
    Column("node_id", Text),
    Column("body", JSON, nullable=False),
    postgresql_partition_by="RANGE (run_id)",
)

node_states = Table(
    "node_states",
    metadata,
    history_column(),
    Column("node_id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("visits", Integer, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("progress", Double, nullable=False),
    Column("message", Text),
    Column("partial_output", Text),
    Column("error", JSON),
    Column("usage", JSON),
    Column("thinking", Text),
    Column("finish_reason", Text),
    Column("started_at", Moment),
    Column("completed_at", Moment),
    # The port by which the node left, and its taken edges where port and visits do not imply them.
    Column("port", Text),
    Column("edges", JSON),
    Column("seq", Integer, nullable=False),
    Column("output_seq", Integer),
    postgresql_with={"fillfactor": "90"},
)

node_outputs = Table(
    "node_outputs",
    metadata,
    history_column(),
    Column("seq", Integer, primary_key=True),
    Column("node_id", Text, nullable=False),
    Column("visit", Integer, nullable=False),
    Column("lineage", Integer, nullable=False, server_default="0"),
    Column("input", JSON),
    Column("output", JSON),
    # The seq of the rewind that superseded this row. At any event before it, the row was valid.
    Column("superseded_seq", Integer),
    postgresql_partition_by="RANGE (run_id)",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    history_column(),
    Column("seq", Integer, primary_key=True),
    # Each partition has a unique index of it.
    Column("id", Id, nullable=False),
    Column("parent_id", Id),
    Column("step", Integer, nullable=False),
    Column("lineage", Integer, nullable=False, server_default="0"),
    # The changes since the parent, or the whole state if `is_full`, as msgpack: see
    # checkpoints/codec.py.
    Column("is_full", Boolean, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("next_nodes", JSON, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("superseded_seq", Integer),
    # The visits of its stretch before the last one, as msgpack: see events/steps.py.
    Column("steps", LargeBinary),
    postgresql_partition_by="RANGE (run_id)",
)

pending_writes = Table(
    "pending_writes",
    metadata,
    run_column(),
    Column("checkpoint_id", Id, primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
)
