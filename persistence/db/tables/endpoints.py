"""The tables of endpoints and deliveries; docs/notifications.md has the states."""

from sqlalchemy import ARRAY, JSON, Boolean, Column, ForeignKey, Index, Integer, Table, Text, func, text

from persistence.db.tables.base import Id, Moment, metadata, project_column

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    # Names of EndpointEvent.
    Column("events", ARRAY(Text), nullable=False),
    # Empty: all workflows, without child runs. Workflows that do not exist any more have no effect.
    Column("workflow_ids", ARRAY(Text), nullable=False),
    # A run must have all of them.
    Column("tags", ARRAY(Text), nullable=False),
    # The name of the secret that signs.
    Column("secret", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    # Since when all attempts have failed.
    Column("failing_since", Moment),
    Column("last_error", Text),
    Column("last_delivered_at", Moment),
    Column("created_by", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_endpoints_project_id_id", "project_id", "id"),
)

# The outbox. A database trigger inserts the rows in the transaction of the change of status.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("endpoint_id", Id, ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("event", Text, nullable=False),
    # The run or the trigger of the event.
    Column("subject_id", Id, nullable=False),
    # The body of the message.
    Column("payload", JSON, nullable=False),
    Column("status", Text, nullable=False, server_default="PENDING"),
    # It only rises: it is the fencing token of an attempt. A resend begins a new series of attempts.
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempts_before", Integer, nullable=False, server_default="0"),
    Column("response_status", Integer),
    Column("error", Text),
    # During an attempt: when another worker may try again, because this one was lost.
    Column("next_attempt_at", Moment, server_default=func.now()),
    Column("delivered_at", Moment),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_deliveries_endpoint_id_id", "endpoint_id", "id"),
    Index("ix_deliveries_due", "endpoint_id", "next_attempt_at", postgresql_where=text("status = 'PENDING'")),
)
