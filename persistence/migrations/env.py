"""Alembic's entry point.

It migrates the connection in the configuration, else the database of TREADLE_DATABASE_URL.
"""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from persistence.db.tables import metadata


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def _migrate_by_url(url: str) -> None:
    engine = create_async_engine(make_url(url).set(drivername="postgresql+asyncpg"))
    async with engine.begin() as connection:
        await connection.run_sync(_migrate)
    await engine.dispose()


if (connection := context.config.attributes.get("connection")) is not None:
    _migrate(connection)
else:
    asyncio.run(_migrate_by_url(os.environ["TREADLE_DATABASE_URL"]))
