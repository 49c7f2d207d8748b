"""The tables of worker processes."""

from sqlalchemy import BigInteger, Column, Integer, Table, Text, func

from persistence.db.tables.base import Moment, metadata

# Worker processes. Each one holds the advisory lock `lock_key` while it lives.
workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("lock_key", BigInteger, nullable=False, unique=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Moment, nullable=False, server_default=func.now()),
    Column("seen_at", Moment, nullable=False, server_default=func.now()),
)

# The last signs of life of workers whose locks nobody else can see, as behind a pooler.
worker_heartbeats = Table(
    "worker_heartbeats",
    metadata,
    Column("worker_id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("seen_at", Moment, nullable=False, server_default=func.now()),
)
