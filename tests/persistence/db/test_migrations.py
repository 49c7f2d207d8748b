"""The migrations lead to the tables that the code knows."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from persistence.db.database import Database
from persistence.db.migrate import NEWEST
from persistence.db.tables import metadata


def _differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_a_migrated_database_is_what_tables_py_says(database: Database) -> None:
    async with database.connect() as connection:
        assert await connection.run_sync(_differences) == []


async def test_the_newest_revision_is_the_one_that_the_migrations_lead_to(database: Database) -> None:
    async with database.connect() as connection:
        heads = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())
    assert heads == (NEWEST,)
