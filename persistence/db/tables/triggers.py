"""The tables of triggers; docs/triggers.md has the states."""

from sqlalchemy import ARRAY, JSON, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, func, text

from persistence.db.tables.base import Id, Moment, metadata, project_column

triggers = Table(
    "triggers",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("config", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_by", Text, nullable=False),
    # The scopes of its runs: those of the caller who last set its config or inputs.
    Column("scopes", ARRAY(Text), nullable=False),
    # The next planned time, and when a worker fires for it: later by jitter, spreading or backoff.
    Column("planned_at", Moment),
    Column("next_fire_at", Moment),
    Column("last_fired_at", Moment),
    Column("last_error", Text),
    # Failures in a row.
    Column("failures", Integer, nullable=False, server_default="0"),
    # The position in the source of the kind.
    Column("state", JSON),
    # Of a webhook: the tokens of its addresses. After a rotation the previous one works for a while.
    Column("webhook_token", Text),
    Column("previous_token", Text),
    Column("previous_until", Moment),
    Column("test_token", Text),
    # Of createTrigger.
    Column("idempotency_key", Text),
    Column("idempotency_hash", Text),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_triggers_project_id_id", "project_id", "id"),
    Index("ix_triggers_workflow_id_id", "workflow_id", "id"),
    Index("ix_triggers_next_fire_at", "next_fire_at", postgresql_where=text("enabled AND next_fire_at IS NOT NULL")),
    Index("ix_triggers_run_finished", "project_id", postgresql_where=text("enabled AND kind = 'run_finished'")),
    *(
        Index(f"uq_triggers_{name}", name, unique=True, postgresql_where=text(f"{name} IS NOT NULL"))
        for name in ("webhook_token", "previous_token", "test_token")
    ),
    Index(
        "uq_triggers_project_id_idempotency_key",
        "project_id",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
)

# At most one row of a trigger and a deduplication key is FIRED. The row is written before its run,
# so the foreign key is checked at the commit.
trigger_events = Table(
    "trigger_events",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("trigger_id", Id, ForeignKey("triggers.id", ondelete="CASCADE"), nullable=False),
    Column("dedupe_key", Text, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("status", Text, nullable=False),
    Column("run_id", Id, ForeignKey("runs.id", ondelete="SET NULL", deferrable=True, initially="DEFERRED")),
    Column("error", Text),
    Column("at", Moment, nullable=False, server_default=func.now()),
    Index("ix_trigger_events_trigger_id_id", "trigger_id", "id"),
    Index("ix_trigger_events_run_id", "run_id", postgresql_where=text("run_id IS NOT NULL")),
    Index(
        "uq_trigger_events_trigger_id_dedupe_key",
        "trigger_id",
        "dedupe_key",
        unique=True,
        postgresql_where=text("status = 'FIRED'"),
    ),
)

# Firings that are accepted and wait for a worker. The transaction that fires one deletes its row.
pending_firings = Table(
    "pending_firings",
    metadata,
    Column("trigger_id", Id, ForeignKey("triggers.id", ondelete="CASCADE"), primary_key=True),
    Column("dedupe_key", Text, primary_key=True),
    Column("payload", JSON, nullable=False),
    Column("fire_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_pending_firings_fire_at", "fire_at"),
)

# The requests to webhooks, each stored before it is parsed. `headers` are without credentials.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("trigger_id", Id, ForeignKey("triggers.id", ondelete="CASCADE"), nullable=False),
    # Of the firing. The event is written after the delivery, or never.
    Column("event_id", Id),
    Column("method", Text, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("query", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("address", Text),
    Column("verdict", Text, nullable=False),
    Column("message_id", Text),
    Column("is_test", Boolean, nullable=False),
    Column("received_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_webhook_deliveries_trigger_id_id", "trigger_id", "id"),
)
