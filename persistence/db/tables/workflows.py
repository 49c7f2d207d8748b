"""The tables of projects, workflows, their exposures and their versions."""

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, Table, Text, func, text

from persistence.db.tables.base import Id, Moment, metadata, project_column

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
    project_column(),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("updated_at", Moment, nullable=False, server_default=func.now()),
    Index("ix_workflows_project_id_id", "project_id", "id"),
)

# The names by which other systems and agents run workflows.
exposures = Table(
    "exposures",
    metadata,
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True),
    project_column(),
    Column("name", Text(collation="C"), nullable=False),
    Column("description", Text, nullable=False),
    Column("mcp", Boolean, nullable=False),
    Column("http", Boolean, nullable=False),
    Index("uq_exposures_name", "project_id", "name", unique=True),
)

drafts = Table(
    "drafts",
    metadata,
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE"), primary_key=True),
    project_column(),
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
    project_column(),
    Column("workflow_id", Id, ForeignKey("workflows.id", ondelete="CASCADE")),
    Column("number", Integer, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("spec_hash", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Moment, nullable=False, server_default=func.now()),
    Column("created_by", Text, nullable=False),
    Column("published_at", Moment),
    # The revision of the draft whose layout and labels the spec has. Nothing else in it changes.
    Column("layout_revision", Integer),
    Column("name", Text),
    Column("note", Text),
    Index("ix_versions_workflow_id_id", "workflow_id", "id"),
    Index("uq_versions_numbered", "workflow_id", "number", unique=True, postgresql_where=text("number > 0")),
    Index("uq_versions_content", "workflow_id", "spec_hash", unique=True, postgresql_where=text("number > 0")),
    # The draft of a trial run.
    Index(
        "uq_versions_trial",
        "workflow_id",
        "spec_hash",
        unique=True,
        postgresql_where=text("number = 0 AND workflow_id IS NOT NULL"),
    ),
    Index("uq_versions_published", "workflow_id", unique=True, postgresql_where=text("status = 'PUBLISHED'")),
    Index(
        "uq_versions_adhoc",
        "project_id",
        "spec_hash",
        unique=True,
        postgresql_where=text("workflow_id IS NULL"),
    ),
)
