"""The tables of conversations: threads and their messages; docs/threads.md has the rules."""

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint, func

from persistence.db.tables.base import Id, Moment, metadata, project_column

threads = Table(
    "threads",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("key", Text, nullable=False),
    # The number of the newest message. The journal raises it, which locks the thread.
    Column("last_number", Integer, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    UniqueConstraint("project_id", "key"),
    Index("ix_threads_project_id_id", "project_id", "id"),
    Index("ix_threads_updated_at", "updated_at"),
)

thread_messages = Table(
    "thread_messages",
    metadata,
    Column("thread_id", Id, ForeignKey("threads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    # The visit that has appended it. Messages outlive their run, so this is no foreign key.
    Column("run_id", Id, nullable=False),
    # The event of the commit. A rewind to an earlier event removes the message.
    Column("run_seq", Integer, nullable=False),
    Column("node_id", Text, nullable=False),
    Column("visit", Integer, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    # An estimate, by which the window of a node is read.
    Column("tokens", Integer, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_thread_messages_run_id", "run_id", "run_seq"),
)
