"""The migrations lead to the tables that the code knows."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from persistence.database import Database
from persistence.tables import metadata


def _differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_a_migrated_database_is_what_tables_py_says(database: Database) -> None:
    async with database.connect() as connection:
        assert await connection.run_sync(_differences) == []
