"""The outbox of analytics events; see persistence.analytics."""

from sqlalchemy import ARRAY, JSON, BigInteger, Column, Identity, Index, Integer, Table, Text, func

from persistence.db.tables.base import Id, Moment, metadata

# Events that are not published yet. Folding adds the ends of runs; database triggers add the others.
analytics_events = Table(
    "analytics_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # No foreign key: the deletion of a project does not delete what has happened in it.
    Column("project_id", Id, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", Moment, nullable=False, server_default=func.now()),
    Column("data", JSON, nullable=False),
    # The receivers that have the event already.
    Column("delivered", ARRAY(Text), nullable=False, server_default="{}"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_analytics_events_next_attempt_at", "next_attempt_at", "id"),
)
