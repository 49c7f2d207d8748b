"""`Database`: the two connection pools of a process, and the deadlines from its settings.

SQLAlchemy's pool serves ordinary queries; asyncpg's own pool serves the hot paths: journal, claims,
leases and feed. A process that hangs inside a transaction loses its connection after 5 seconds, so
its row locks never stop the others.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg
import orjson
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from persistence.db.deadlines import Deadlines

SET_IDLE_TIMEOUT = "SET idle_in_transaction_session_timeout = '5s'"
"""Limits how long a process that hangs inside a transaction locks its rows.

Others can then still renew leases.
"""


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("json", schema="pg_catalog", encoder=_dumps, decoder=orjson.loads)
    await connection.execute(SET_IDLE_TIMEOUT)


def _set_idle_timeout(connection: Any, _: object) -> None:
    connection.run_async(lambda driver: driver.execute(SET_IDLE_TIMEOUT))


async def _skip_reset(_: asyncpg.Connection) -> None:
    """Return a connection to the pool without RESET ALL, a round trip a statement.

    No caller changes session settings.
    """


def dsn(url: str) -> str:
    """Convert a `postgresql://` address of any dialect to the form that asyncpg reads."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def create_engine(url: str, **options: Any) -> AsyncEngine:
    """Create SQLAlchemy's pool.

    Its connections are opened by asyncpg, which parses the address: SQLAlchemy would pass `sslmode`
    and the like unchanged.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn(url))

    # Errors are logged, and parameters have the inputs of runs.
    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **options)


def create_pool(url: str, *, size: int) -> asyncpg.Pool:
    """Create a pool of asyncpg's own. Await it or enter it to open its first connection."""
    return asyncpg.create_pool(dsn(url), min_size=1, max_size=size, init=_prepare, reset=_skip_reset)


def _check_open(connection: Any, *_: object) -> None:
    """Discard a pooled connection that Postgres closed. asyncpg knows it without a round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


class Database:
    """Both pools of one process.

    Create it with `await Database.open(url, deadlines)` and end it with `close`.
    """

    def __init__(self, engine: AsyncEngine, pool: asyncpg.Pool, deadlines: Deadlines) -> None:
        self.engine, self.pool, self.deadlines = engine, pool, deadlines

    @classmethod
    async def open(cls, url: str, deadlines: Deadlines, *, pool_size: int = 10) -> Self:
        """Open both pools.

        Args:
            url: Any `postgresql://` address, Unix sockets (`?host=/folder`) included.
            deadlines: The configured time limits, which commands and recovery read from here.
            pool_size: The maximum number of connections of each pool.
        """
        engine = create_engine(url, pool_size=pool_size, json_serializer=_dumps, json_deserializer=orjson.loads)
        event.listen(engine.sync_engine, "connect", _set_idle_timeout)
        event.listen(engine.sync_engine, "checkout", _check_open)
        pool = await create_pool(url, size=pool_size)
        return cls(engine, pool, deadlines)

    async def close(self) -> None:
        await self.engine.dispose()
        await self.pool.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction: committed at the end of the block, rolled back by an exception."""
        async with self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection in autocommit mode, for reading: one round trip a statement."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection
