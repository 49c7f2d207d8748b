"""`Database`: the two connection pools of a process, and the deadlines from its settings.

SQLAlchemy's pool serves ordinary queries; asyncpg's own pool serves the hot paths: journal, claims,
leases and feed. A process that hangs inside a transaction loses its connection after 5 seconds, so
its row locks never stop the others.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any, Self

import asyncpg
import orjson
import structlog
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from persistence.db import barrier
from persistence.db.barrier import Barrier
from persistence.db.deadlines import Deadlines

log = structlog.get_logger()
_DRIVER_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
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
    """Discard a pooled connection that Postgres closed, or one inside a transaction.

    asyncpg knows both without a round trip.
    """
    driver = connection.driver_connection
    if driver.is_closed() or driver.is_in_transaction():
        raise DisconnectionError


class Database:
    """Both pools of one process.

    Create it with `await Database.open(url, deadlines)` and end it with `close`.
    """

    def __init__(self, engine: AsyncEngine, pool: asyncpg.Pool, deadlines: Deadlines) -> None:
        self.engine, self.pool, self.deadlines = engine, pool, deadlines
        self._barrier: Barrier | None = None

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

    @asynccontextmanager
    async def read(self, projects: Sequence[str], *, is_snapshot: bool = False) -> AsyncIterator[AsyncConnection]:
        """Open a connection for the reads of a caller, which sees only rows of its projects.

        Where the barrier is not active, only the conditions of the queries hide other rows.

        Args:
            projects: The ids of the projects that the caller may see.
            is_snapshot: Whether all statements see the same state.
        """
        role = await self._reader_role()
        if role is None:
            async with self._read_as_owner(is_snapshot=is_snapshot) as connection:
                yield connection
            return
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            driver = (await connection.get_raw_connection()).driver_connection
            async with _transaction(driver, barrier.begin(role, projects, is_snapshot=is_snapshot)):
                await barrier.put_behind(connection, role)
                yield connection

    @asynccontextmanager
    async def read_by_driver(self, projects: Sequence[str]) -> AsyncIterator[Any]:
        """Open a connection of asyncpg for the reads of a caller, as `read` does."""
        role = await self._reader_role()
        begin = None if role is None else barrier.begin(role, projects)
        async with self.pool.acquire() as driver, _transaction(driver, begin) if begin else nullcontext():
            yield driver

    @asynccontextmanager
    async def _read_as_owner(self, *, is_snapshot: bool) -> AsyncIterator[AsyncConnection]:
        async with self.begin() if is_snapshot else self.connect() as connection:
            if is_snapshot:
                await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    async def _reader_role(self) -> str | None:
        """Return the role of reads, or None if the barrier is not active. The first call inspects the database."""
        if self._barrier is None:
            found = await barrier.inspect(self.pool)
            if self._barrier is None and found.problem is not None:
                log.warning("database.no_row_level_security", problem=found.problem, remedy=found.remedy)
            self._barrier = found
        return self._barrier.role if self._barrier.problem is None else None


@asynccontextmanager
async def _transaction(driver: Any, begin: str) -> AsyncIterator[None]:
    """Execute the block in a transaction of a caller, which is ended after any error and any cancellation."""
    try:
        await driver.execute(begin)
        yield
    finally:
        # What was read stays valid if the end fails.
        with suppress(*_DRIVER_ERRORS):
            await _end(driver)


async def _end(driver: Any) -> None:
    """End the transaction of a caller. A connection that cannot is closed, because it has the role of reads."""
    try:
        await driver.execute(barrier.END)
    except BaseException:
        driver.terminate()
        raise
