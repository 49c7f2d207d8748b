"""The table of bulk jobs; see persistence.bulk_jobs."""

from sqlalchemy import ARRAY, JSON, Boolean, Column, Index, Integer, Table, Text, func, text

from persistence.db.tables.base import Id, Moment, metadata, project_column

bulk_jobs = Table(
    "bulk_jobs",
    metadata,
    Column("id", Id, primary_key=True),
    project_column(),
    Column("action", Text, nullable=False),
    Column("is_dry_run", Boolean, nullable=False),
    # The runs, in the order in which they are changed. `done` + `failed` is the position.
    Column("run_ids", ARRAY(Text), nullable=False),
    Column("matched", Integer, nullable=False),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("created_by", Text, nullable=False),
    # Role, scopes and kind of the caller, for the changes of the runs.
    Column("caller", JSON, nullable=False),
    Column("claimed_until", Moment, nullable=False, server_default=text("'-infinity'")),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("finished_at", Moment),
    Index("ix_bulk_jobs_project_id_id", "project_id", "id"),
    Index("ix_bulk_jobs_unfinished", "id", postgresql_where=text("finished_at IS NULL")),
)
