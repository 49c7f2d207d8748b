"""Every table, as SQLAlchemy Core. Rows of a run belong to its project through `runs`; all others name it themselves.

JSON is kept as Postgres `json`: verbatim, never queried inside, cheaper to write than `jsonb`.
"""

from sqlalchemy import (
    JSON,
    REAL,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = Text(collation="C")
"""A TypeID. Collation C: compared byte by byte, so that it sorts by creation time."""
Moment = DateTime(timezone=True)


def _project() -> Column[str]:
    return Column("project_id", Id, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False)


def _run() -> Column[str]:
    return Column("run_id", Id, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


projects = Table(
    "projects",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
)

workflows = Table(
    "workflows",
    metadata,
    Column("id", Id, primary_key=True),
    _project(),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_workflows_project_id_id", "project_id", "id"),
)

drafts = Table(
    "drafts",
    metadata,
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True),
    _project(),
    Column("spec", JSON, nullable=False),
    Column("spec_hash", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_by", Text, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Id, primary_key=True),
    _project(),
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE")),
    Column("number", Integer, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("spec_hash", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("created_by", Text, nullable=False),
    Column("published_at", Moment),
    UniqueConstraint("workflow_id", "spec_hash"),
    UniqueConstraint("workflow_id", "number"),
    Index("uq_versions_published", "workflow_id", unique=True, postgresql_where=text("status = 'PUBLISHED'")),
    Index(
        "uq_versions_adhoc",
        "project_id",
        "spec_hash",
        unique=True,
        postgresql_where=text("workflow_id IS NULL"),
    ),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    _project(),
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE")),
    Column("version_id", Id, ForeignKey("versions.id", ondelete="CASCADE"), nullable=False),
    Column("source", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_message", Text),
    Column("inputs", JSON, nullable=False),
    Column("output", JSON),
    Column("error", JSON),
    Column("progress", REAL, nullable=False, server_default="0"),
    # Options: {timeoutS, breakpoints, stepwise}; priority has a column because the queue reads it.
    Column("options", JSON, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("created_by", Text, nullable=False),
    # The lease: who runs it, under which fencing token, until when by the database's clock.
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("worker_id", Text),
    Column("lease_until", Moment),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("takeup", Integer, nullable=False, server_default="0"),
    Column("last_seq", Integer, nullable=False, server_default="0"),
    Column("lineage", Integer, nullable=False, server_default="0"),
    # The mark of the journal's group that wrote last: tells, after a connection lost in COMMIT, whether it landed.
    Column("written_by", BigInteger),
    # Intents outlive a lost nudge: the heartbeat reads them.
    Column("cancel_reason", Text),
    Column("cancel_requested_at", Moment),
    Column("pause_requested_at", Moment),
    Column("parent_id", Id, ForeignKey("runs.id", ondelete="SET NULL")),
    Column("retry_of_id", Id, ForeignKey("runs.id", ondelete="SET NULL")),
    Column("forked_from_id", Id),
    Column("deadline_at", Moment),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("queued_at", Moment),
    Column("started_at", Moment),
    Column("resumed_at", Moment),
    Column("paused_at", Moment),
    Column("cancelled_at", Moment),
    Column("finished_at", Moment),
    Index("ix_runs_project_id_id", "project_id", "id"),
    Index("ix_runs_workflow_id_id", "workflow_id", "id"),
    Index("ix_runs_version_id_id", "version_id", "id"),
    Index("ix_runs_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
    Index("ix_runs_retry_of_id", "retry_of_id", postgresql_where=text("retry_of_id IS NOT NULL")),
    Index(
        "ix_runs_active",
        "status",
        "lease_until",
        postgresql_where=text("status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')"),
    ),
    # last_seq and the lease change with every write: room in the page keeps those updates off the indexes (HOT).
    postgresql_with={"fillfactor": "70"},
)

events = Table(
    "events",
    metadata,
    _run(),
    Column("seq", Integer, primary_key=True),
    Column("type", Text, nullable=False),
    Column("at", Moment, nullable=False, server_default=func.now()),
    Column("node_id", Text),
    Column("body", JSON, nullable=False),
)

node_states = Table(
    "node_states",
    metadata,
    _run(),
    Column("node_id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("visits", Integer, nullable=False),
    Column("attempt", SmallInteger, nullable=False),
    Column("progress", REAL, nullable=False),
    Column("message", Text),
    Column("partial_output", Text),
    Column("error", JSON),
    Column("started_at", Moment),
    Column("completed_at", Moment),
    Column("seq", Integer, nullable=False),
    Column("output_seq", Integer),
    postgresql_with={"fillfactor": "70"},
)

node_outputs = Table(
    "node_outputs",
    metadata,
    _run(),
    Column("seq", Integer, primary_key=True),
    Column("node_id", Text, nullable=False),
    Column("visit", Integer, nullable=False),
    Column("lineage", Integer, nullable=False, server_default="0"),
    Column("input", JSON),
    Column("output", JSON),
    Column("is_superseded", Boolean, nullable=False, server_default=text("false")),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _run(),
    Column("seq", Integer, primary_key=True),
    Column("id", Id, nullable=False, unique=True),
    Column("parent_id", Id),
    Column("step", Integer, nullable=False),
    Column("lineage", Integer, nullable=False, server_default="0"),
    # A delta over the parent, or the whole state when `is_full`; msgpack, see checkpoints.py.
    Column("is_full", Boolean, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("next_nodes", JSON, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
)

pending_writes = Table(
    "pending_writes",
    metadata,
    _run(),
    Column("checkpoint_id", Id, primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Id, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("arguments_hash", Text, nullable=False),
    Column("run_id", Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
)
