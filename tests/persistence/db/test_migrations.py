"""Migrations: they produce the tables of `tables.py`."""

import re

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from persistence.db.database import Database
from persistence.db.migrate import NEWEST
from persistence.db.partitions import PARTITIONED
from persistence.db.tables import metadata

OPTIONAL = "ix_runs_error_text"
"""The index that a migration creates only where the database has pg_trgm."""


def _is_no_partition(name: str | None, type: str, _: object) -> bool:
    return name != OPTIONAL and (
        type != "table" or not re.fullmatch(rf"({'|'.join(PARTITIONED)})_(default|before|p\d.*)", name or "")
    )


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"include_name": _is_no_partition})
    return list(compare_metadata(context, metadata))


async def test_a_migrated_database_has_the_tables_of_the_code(database: Database) -> None:
    async with database.connect() as connection:
        assert await connection.run_sync(_differences) == []


async def test_migrations_end_at_the_newest_revision(database: Database) -> None:
    async with database.connect() as connection:
        heads = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())
    assert heads == (NEWEST,)
