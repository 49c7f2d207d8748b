"""What tables share: the metadata, the types of ids and times, and columns that refer to other tables."""

from sqlalchemy import Column, DateTime, ForeignKey, MetaData, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = Text(collation="C")
"""A TypeID. Collation C compares byte by byte, so ids sort by creation time."""
Moment = DateTime(timezone=True)


def project_column() -> Column[str]:
    return Column("project_id", Id, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False)


def run_column() -> Column[str]:
    return Column("run_id", Id, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


def history_column() -> Column[str]:
    """Make the column of a table of many rows, which the trigger `delete_history` deletes with the run.

    It has no foreign key, which would cost each insert a query. So a writer must have locked the run,
    or inserted it, in the same transaction.
    """
    return Column("run_id", Id, primary_key=True)
