"""The tables of the statistics of ended runs; see persistence.statistics."""

from sqlalchemy import ARRAY, JSON, BigInteger, Boolean, Column, Double, Identity, Index, Table, Text, text

from persistence.db.tables.base import Id, Moment, metadata

# The end of each run, until it is folded into the sums. The trigger `record_run_end` inserts it.
run_ends = Table(
    "run_ends",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("project_id", Id, nullable=False),
    Column("workflow_id", Id),
    Column("finished_at", Moment, nullable=False),
    Column("status", Text, nullable=False),
    Column("code", Text),
    Column("duration_ms", Double),
    Column("queue_ms", Double),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    # In billionths of a dollar.
    Column("cost", BigInteger, nullable=False),
    # [node id, status, milliseconds] of each node that has started.
    Column("nodes", JSON),
    Column("tags", ARRAY(Text), nullable=False, server_default="{}"),
    Column("is_child", Boolean, nullable=False, server_default=text("false")),
    # For the analytics event. Null in rows of the previous release.
    Column("run_id", Id),
    Column("mode", Text),
    Column("source", Text),
)

# The counters of ended runs by hour, day and month, of each workflow and of the whole project (an empty
# workflow_id), and of each node of a workflow. The counts of an open month are null: its days have them.
run_sums = Table(
    "run_sums",
    metadata,
    Column("project_id", Id, primary_key=True),
    Column("workflow_id", Id, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("start", Moment, primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("counts", JSON(none_as_null=True)),
)
Index("ix_run_sums_open", run_sums.c.start, postgresql_where=run_sums.c.counts.is_(None))
