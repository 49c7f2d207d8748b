"""The connection pools to Postgres. SQLAlchemy for everything but the hot paths, which take asyncpg's own pool."""

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

HASTE = "SET idle_in_transaction_session_timeout = '5s'"
"""A process that hangs in the middle of a transaction holds its rows no longer than this: others can still renew leases."""


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("json", schema="pg_catalog", encoder=_dumps, decoder=orjson.loads)
    await connection.execute(HASTE)


def _hasten(connection: Any, _: object) -> None:
    connection.run_async(lambda driver: driver.execute(HASTE))


async def _as_it_is(_: asyncpg.Connection) -> None:
    """A connection goes back without a RESET, which would be a round trip a statement: nothing here changes a session."""


def dsn(url: str) -> str:
    """A `postgresql://…` address of any flavour as asyncpg takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def engine_of(url: str, **options: Any) -> AsyncEngine:
    """SQLAlchemy's pool. asyncpg reads the address: SQLAlchemy would hand over `sslmode` and the like as they stand."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn(url))

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, **options)


def pool_of(url: str, *, size: int) -> asyncpg.Pool:
    """A pool of asyncpg's own, to be awaited or entered."""
    return asyncpg.create_pool(dsn(url), min_size=1, max_size=size, init=_prepare, reset=_as_it_is)


def _only_open_ones(connection: Any, *_: object) -> None:
    """After Postgres was away: asyncpg knows which connections are gone, so none has to be asked."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


class Database:
    """Both pools of one process. Open with `await Database.open(url)`, end with `await close()`."""

    def __init__(self, engine: AsyncEngine, pool: asyncpg.Pool, deadlines: Deadlines) -> None:
        self.engine, self.pool, self.deadlines = engine, pool, deadlines

    @classmethod
    async def open(cls, url: str, deadlines: Deadlines, *, pool_size: int = 10) -> Self:
        """`url` is any `postgresql://…` address, Unix sockets (`?host=/folder`) included."""
        engine = engine_of(url, pool_size=pool_size, json_serializer=_dumps, json_deserializer=orjson.loads)
        event.listen(engine.sync_engine, "connect", _hasten)
        event.listen(engine.sync_engine, "checkout", _only_open_ones)
        pool = await pool_of(url, size=pool_size)
        return cls(engine, pool, deadlines)

    async def close(self) -> None:
        await self.engine.dispose()
        await self.pool.close()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed at the end of the block, rolled back by an exception."""
        async with self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """For reading: autocommit, one round trip a statement."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection
