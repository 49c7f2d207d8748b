"""The table of events from outside; docs/signals.md has the states."""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, Table, Text, func, text

from persistence.db.tables.base import Id, Moment, metadata, project_column

# Events that were sent to runs: to a run (`run_id`), to the runs of a workflow with a key, or to the
# callback address of a visit (`node_id`, `visit`). KEPT ones wait for a run.
signals = Table(
    "signals",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("run_id", Id, ForeignKey("runs.id", ondelete="CASCADE")),
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE")),
    Column("name", Text, nullable=False),
    Column("key", Text),
    Column("node_id", Text),
    Column("visit", Integer),
    Column("payload", JSON, nullable=False),
    Column("status", Text, nullable=False),
    Column("error", Text),
    Column("sent_by", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("arguments_hash", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("expires_at", Moment),
    Index("ix_signals_run_id_id", "run_id", "id", postgresql_where=text("run_id IS NOT NULL")),
    Index("ix_signals_workflow_id_key", "workflow_id", "key", "name", postgresql_where=text("workflow_id IS NOT NULL")),
    Index("ix_signals_kept", "id", postgresql_where=text("status = 'KEPT'")),
    Index("ix_signals_project_id", "project_id"),
    Index(
        "uq_signals_project_id_idempotency_key",
        "project_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
)
