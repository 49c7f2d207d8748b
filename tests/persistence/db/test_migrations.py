"""Migrations: they produce the tables of `tables.py`."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from persistence.db.database import Database
from persistence.db.migrate import NEWEST
from persistence.db.tables import metadata
from persistence.db.tables import triggers as triggers  # adds its tables to the metadata


def _differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_a_migrated_database_has_the_tables_of_the_code(database: Database) -> None:
    async with database.connect() as connection:
        assert await connection.run_sync(_differences) == []


async def test_migrations_end_at_the_newest_revision(database: Database) -> None:
    async with database.connect() as connection:
        heads = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())
    assert heads == (NEWEST,)
