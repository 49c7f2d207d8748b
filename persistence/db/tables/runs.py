"""The tables of runs."""

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)

from engine.states import LEASED, TERMINAL, WITH_DEADLINE, WITH_TIMEOUT, RunStatus, sql_list
from persistence.db.tables.base import Id, Moment, metadata, project_column, run_column

_STOPPING = sql_list(TERMINAL | {RunStatus.CANCELLING})
_HAS_ENDED, _HAS_DEADLINE = (text(f"status IN {sql_list(statuses)}") for statuses in (TERMINAL, WITH_DEADLINE))

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE")),
    Column("version_id", Id, ForeignKey("versions.id", ondelete="CASCADE"), nullable=False),
    Column("source", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_message", Text),
    Column("inputs", JSON, nullable=False),
    Column("output", JSON),
    Column("error", JSON),
    Column("progress", Double, nullable=False, server_default="0"),
    # RunOptions.to_json(); the priority has a column of its own, because the queue sorts by it.
    Column("options", JSON, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("tags", ARRAY(Text), nullable=False, server_default="{}"),
    Column("created_by", Text, nullable=False),
    # The scopes of the caller who started the run. Tools check them long after that request has
    # ended.
    Column("scopes", ARRAY(Text), nullable=False, server_default="{}"),
    # The lease: its fencing token, its worker, and its end by the database's clock.
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("worker_id", Text),
    Column("lease_until", Moment),
    Column("attempt", Integer, nullable=False, server_default="0"),
    # How often the run was queued. It makes the task id of an execution unique.
    Column("takeup", Integer, nullable=False, server_default="0"),
    # How many workers were lost in a row without progress, and the run's last finished seq when the
    # last one was lost.
    Column("crashes", SmallInteger, nullable=False, server_default="0"),
    Column("crashed_seq", Integer),
    # Runs with the same concurrency key share one limit: the workflow where its spec has a limit,
    # else the project.
    Column("lane", Id, nullable=False, key="concurrency_key"),
    Column("lane_limit", Integer, key="concurrency_limit"),
    Column("last_seq", Integer, nullable=False, server_default="0"),
    Column("lineage", Integer, nullable=False, server_default="0"),
    # Bytes of the inputs, the outputs, the events and the checkpoints that were written, uncompressed.
    # In no index: it changes with every write.
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    # The mark of the journal's group that wrote last. It shows whether a group whose connection was
    # lost is committed.
    Column("written_by", BigInteger),
    # The last seq that this group assigned. Other writers, such as a cancel, may have raised
    # last_seq since.
    Column("written_seq", Integer),
    # Requests to the worker. The heartbeat reads them too, so a lost notification only delays them.
    Column("cancel_reason", Text),
    Column("cancel_requested_at", Moment),
    Column("pause_requested_at", Moment),
    # When a WAITING run is queued again: at its first timer, or at once after an answer.
    Column("wake_at", Moment),
    # When the run fails with TIMEOUT. A pause extends it.
    Column("timeout_at", Moment),
    # Of the last resume: the step of the head, and whether the run pauses again after one step.
    Column("resumed_step", Integer, nullable=False, server_default="-1"),
    Column("is_step", Boolean, nullable=False, server_default=text("false")),
    # When retention deleted the run's events, checkpoints and node data.
    Column("pruned_at", Moment),
    Column("parent_id", Id, ForeignKey("runs.id", ondelete="SET NULL")),
    # `lineage/node/visit` of the parent's node that started this run, and the item in a map. It is
    # unique for each parent, so a repeated start finds the existing child.
    Column("parent_key", Text),
    Column("depth", SmallInteger, nullable=False, server_default="0"),
    Column("retry_of_id", Id, ForeignKey("runs.id", ondelete="SET NULL")),
    Column("forked_from_id", Id),
    # No foreign key: the run stays when its trigger is deleted.
    Column("trigger_id", Id),
    Column("deadline_at", Moment),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("queued_at", Moment),
    Column("started_at", Moment),
    Column("resumed_at", Moment),
    Column("paused_at", Moment),
    Column("cancelled_at", Moment),
    Column("finished_at", Moment),
    Index("ix_runs_project_id_id", "project_id", "id"),
    Index("ix_runs_project_id_ended", "project_id", "status", "id", postgresql_where=_HAS_ENDED),
    # Of runs that may rest for long. Lists of the other statuses use ix_runs_active: a run passes them soon.
    Index("ix_runs_project_id_idle", "project_id", "status", "id", postgresql_where=_HAS_DEADLINE),
    Index("ix_runs_project_id_source_id", "project_id", "source", "id"),
    Index("ix_runs_workflow_id_id", "workflow_id", "id"),
    Index("ix_runs_workflow_id_ended", "workflow_id", "status", "id", postgresql_where=_HAS_ENDED),
    Index("ix_runs_version_id_id", "version_id", "id"),
    Index("ix_runs_tags", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'")),
    Index("ix_runs_error_code", text("(error->>'code')"), "id", postgresql_where=text("error IS NOT NULL")),
    Index(
        "ix_runs_project_id_finished_at",
        "project_id",
        "finished_at",
        "id",
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
    Index(
        "ix_runs_project_id_duration",
        "project_id",
        text("(finished_at - started_at)"),
        "id",
        postgresql_where=text("finished_at IS NOT NULL AND started_at IS NOT NULL"),
    ),
    # ix_runs_error_text is not here: it exists only where the database has pg_trgm; see migration 0020.
    Index("uq_runs_parent", "parent_id", "parent_key", unique=True, postgresql_where=text("parent_id IS NOT NULL")),
    Index(
        "ix_runs_children",
        "parent_id",
        postgresql_where=text(f"parent_id IS NOT NULL AND status NOT IN {_STOPPING}"),
    ),
    Index("ix_runs_trigger_id_id", "trigger_id", "id", postgresql_where=text("trigger_id IS NOT NULL")),
    Index(
        "ix_runs_triggered",
        "trigger_id",
        postgresql_where=text(f"trigger_id IS NOT NULL AND status NOT IN {sql_list(TERMINAL)}"),
    ),
    Index("ix_runs_retry_of_id", "retry_of_id", postgresql_where=text("retry_of_id IS NOT NULL")),
    Index("ix_runs_forked_from_id", "forked_from_id", postgresql_where=text("forked_from_id IS NOT NULL")),
    Index(
        "ix_runs_queue",
        "concurrency_key",
        text("priority DESC"),
        "queued_at",
        "id",
        postgresql_where=text("status = 'QUEUED'"),
    ),
    Index("ix_runs_limited", "concurrency_key", postgresql_where=text("status = 'QUEUED' AND lane_limit IS NOT NULL")),
    Index("ix_runs_held", "concurrency_key", postgresql_where=text(f"status IN {sql_list(LEASED)}")),
    Index("ix_runs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    Index("ix_runs_prunable", "finished_at", postgresql_where=text("finished_at IS NOT NULL AND pruned_at IS NULL")),
    Index("ix_runs_wake_at", "wake_at", postgresql_where=text("status = 'WAITING'")),
    # Recovery reads it twice a second, so it must not cost more for a long queue: runs that
    # never started have no timeout_at.
    Index(
        "ix_runs_timeout_at",
        "timeout_at",
        postgresql_where=text(f"status IN {sql_list(WITH_TIMEOUT)} AND timeout_at IS NOT NULL"),
    ),
    Index("ix_runs_deadline_at", "deadline_at", postgresql_where=text(f"status IN {sql_list(WITH_DEADLINE)}")),
    Index(
        "ix_runs_active",
        "status",
        "lease_until",
        postgresql_where=text(f"status NOT IN {sql_list(TERMINAL)}"),
    ),
    # last_seq and the lease change with every write: free space in the page keeps these updates out
    # of the indexes (HOT).
    postgresql_with={"fillfactor": "70"},
)

# Waits of runs: timers, questions, child runs and backoffs before a retry. A wait is open until it is settled or superseded.
waits = Table(
    "waits",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("node_id", Text, nullable=False),
    Column("visit", Integer, nullable=False),
    Column("lineage", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    # TIMER, INPUT, RUN, RETRY or EVENT.
    Column("kind", Text, nullable=False),
    Column("since", Moment, nullable=False, server_default=func.now()),
    # When the wait ends by itself, and how the node ends then: {value, port}.
    Column("until", Moment),
    Column("outcome", JSON),
    Column("prompt", JSON),
    Column("schema", JSON),
    Column("answer", JSON),
    Column("answered_at", Moment),
    Column("answered_by", Text),
    Column("settled_seq", Integer),
    Column("superseded_seq", Integer),
    # The child run of a RUN wait: its end is the answer.
    Column("child_run_id", Id),
    # Who may answer an INPUT wait: {role, subjects, exceptStarter}. NULL: all who may control the run.
    Column("answerers", JSON),
    # Of an EVENT wait: the event that it waits for, and the signal that ended it.
    Column("event_name", Text),
    Column("event_key", Text),
    Column("signal_id", Id),
    # Whether nobody has looked yet for signals that came before it.
    Column("is_unmatched", Boolean, nullable=False, server_default=text("false")),
    Index("ix_waits_run_id", "run_id"),
    Index(
        "ix_waits_event_key",
        "event_key",
        "event_name",
        postgresql_where=text("event_key IS NOT NULL AND settled_seq IS NULL AND superseded_seq IS NULL"),
    ),
    Index("ix_waits_unmatched", "id", postgresql_where=text("is_unmatched")),
    Index("ix_waits_signal_id", "signal_id", postgresql_where=text("signal_id IS NOT NULL")),
    Index(
        "ix_waits_child_run_id",
        "child_run_id",
        postgresql_where=text("child_run_id IS NOT NULL AND answered_at IS NULL"),
    ),
)

# The finished items of a `map` node: after a crash only the others run. Deleted when the node is
# finished.
map_items = Table(
    "map_items",
    metadata,
    run_column(),
    Column("lineage", Integer, primary_key=True),
    Column("node_id", Text, primary_key=True),
    Column("visit", Integer, primary_key=True),
    Column("idx", Integer, primary_key=True),
    # The digest of the item's input. If a restarted map has another item at this index, the row is
    # ignored.
    Column("digest", BigInteger, nullable=False),
    Column("output", JSON),
    Column("error", JSON),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Id, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("arguments_hash", Text, nullable=False),
    Column("run_id", Id, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_idempotency_keys_created_at", "created_at"),
    Index("ix_idempotency_keys_run_id", "run_id"),
)
