"""Queries other databases for the tools `sql:<name>`.

A query is one SELECT in a READ ONLY transaction, with limits on time, rows and bytes. It is wrapped
in a FROM, where Postgres allows nothing but a query. The rights of the database role decide what
functions may do beyond reading; see docs/tools.md. Nothing here is stored.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from asyncpg.prepared_stmt import PreparedStatement

from engine.catalog_file import CatalogError, SqlDatabase, expand_variables, hide_variables
from engine.connection_faults import connection_fault
from engine.errors import NodeFailure
from engine.isolation.turns import FairSlots, QueueFull
from engine.sdk.tool import ToolFailed
from engine.types import JSON
from engine.values.json_text import NotJson, parse_json
from persistence.db.database import dsn
from persistence.db.sql_messages import sql_message

CONNECTIONS = 4
"""Most connections to one database from one process."""
SHARE = CONNECTIONS - 1
"""Most of them that one project uses at once. Projects get them in turn."""
CONNECT_S = 10.0
BATCH = 50
MAX_ROW = 256 * 1024
"""Most bytes of one row as JSON."""
MAX_BYTES = 4 * 1024 * 1024
"""Most bytes of all rows as JSON."""
_AS_TEXT = (
    "bool", "date", "float4", "float8", "int2", "int4", "int8", "interval", "json", "jsonb", "numeric", "time", "timestamp",
    "timestamptz", "timetz", "uuid",
)  # fmt: skip
"""Types whose parameters are sent as text. Postgres parses them, as it does in psql."""
_TRANSIENT = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
"""Narrower than `persistence.db.transient`: on a foreign database, a write or a wrong number of
parameters is a mistake of the author."""


class SqlPools:
    """The connection pools of all databases, each opened at its first query."""

    def __init__(self, configs: Mapping[str, SqlDatabase]) -> None:
        self._configs = configs
        self._pools: dict[str, asyncpg.Pool] = {}
        self._slots = {name: FairSlots(CONNECTIONS, SHARE) for name in configs}
        self._opening = asyncio.Lock()

    async def read(self, name: str, query: str, parameters: list[JSON], max_rows: int) -> list[JSON]:
        """Run a query.

        Args:
            name: The database, as the catalog names it.
            query: One SELECT, with parameters as `$1`, `$2`.
            parameters: The values of the parameters.
            max_rows: How many rows the caller wants.

        Returns:
            The rows as JSON objects: one more than `max_rows` if there are more.

        Raises:
            NodeFailure: The query takes too long, or the database cannot be reached.
            ToolFailed: The query is wrong, not allowed, or returns too much.
        """
        config = self._configs[name]
        try:
            # The time limit in the database is shorter, and its error is more precise.
            async with (
                asyncio.timeout(CONNECT_S + config.timeout_s),
                self._slots[name].slot(),
                (await self._pool(name)).acquire() as connection,
            ):
                return await _read(connection, config, query.strip().rstrip(";"), parameters, max_rows + 1)
        except (TimeoutError, asyncpg.QueryCanceledError):
            message = f"the query of {name!r} did not finish within {config.timeout_s:g} s"
            raise NodeFailure("TIMEOUT", message, retryable=True) from None
        except QueueFull as full:
            message = f"{full.limit} queries of the same caller wait for the database {name!r} already"
            raise NodeFailure("TOOL_FAILED", message, retryable=True) from full
        except (*_TRANSIENT, CatalogError) as error:
            message = f"the database {name!r} cannot be reached: {_reason_of(error, config)}"
            raise NodeFailure("TOOL_FAILED", message, retryable=not isinstance(error, CatalogError)) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            # A transaction that the database has rolled back (class 40) may succeed later.
            is_transient = isinstance(error, asyncpg.TransactionRollbackError)
            raise ToolFailed(_message_of(error), retryable=is_transient) from error

    async def _pool(self, name: str) -> asyncpg.Pool:
        async with self._opening:
            if name not in self._pools:
                url = dsn(expand_variables(self._configs[name].url))
                self._pools[name] = await asyncpg.create_pool(
                    url, min_size=0, max_size=CONNECTIONS, timeout=CONNECT_S, init=_set_codecs, reset=_reset
                )
            return self._pools[name]

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()


@asynccontextmanager
async def open_databases(configs: Mapping[str, SqlDatabase]) -> AsyncIterator[SqlPools]:
    """Open the resource, and close its pools at the end."""
    databases = SqlPools(configs)
    try:
        yield databases
    finally:
        await databases.close()


_SUPERUSER = "SELECT rolname FROM pg_roles WHERE rolname = current_user AND rolsuper"


async def find_role_problems(configs: Mapping[str, SqlDatabase]) -> dict[str, str]:
    """Connect to each database, and check that its role is not a superuser.

    Returns:
        What is wrong, and what to do about it, by the name of the database.
    """
    problems = {}
    for name, config in configs.items():
        try:
            connection = await asyncpg.connect(dsn(expand_variables(config.url)), timeout=CONNECT_S)
        except (*_TRANSIENT, CatalogError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            problems[name] = f"cannot be reached: {_reason_of(error, config)}"
            continue
        try:
            superuser = await connection.fetchval(_SUPERUSER)
        finally:
            await connection.close()
        if superuser is not None:
            advice = "use a role that may only SELECT what authors may see"
            problems[name] = f"the role {superuser!r} is a superuser, whose queries can do anything: {advice}"
    return problems


Connection = asyncpg.Connection | PoolConnectionProxy


async def _set_codecs(connection: asyncpg.Connection) -> None:
    for kind in _AS_TEXT:
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=_as_text, decoder=str, format="text")


async def _reset(connection: asyncpg.Connection) -> None:
    """Reset the session of a connection that returns to its pool. RESET ALL leaves the role."""
    await connection.execute(f"{connection.get_reset_query()}\nRESET SESSION AUTHORIZATION; RESET ROLE;")


def _as_text(value: JSON) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


async def _read(
    connection: Connection, config: SqlDatabase, query: str, parameters: list[JSON], limit: int
) -> list[JSON]:
    rows: list[JSON] = []
    size = 0
    async with _rolled_back(connection):
        await connection.execute(f"SET LOCAL statement_timeout = {int(config.timeout_s * 1000)}")
        async for (row,) in (await _prepare(connection, query, limit)).cursor(*parameters, prefetch=BATCH):
            if row is None:
                raise ToolFailed(f"a row is larger than {MAX_ROW // 1024} KiB")
            size += len(row)
            if size > MAX_BYTES:
                raise ToolFailed(f"the rows are larger than {MAX_BYTES // 1024 // 1024} MiB; ask for fewer")
            rows.append(_parse(row))
    return rows


@asynccontextmanager
async def _rolled_back(connection: Connection) -> AsyncIterator[None]:
    """Run a READ ONLY transaction and roll it back.

    So no setting, role or notification of a query is left for the next one.
    """
    transaction = connection.transaction(readonly=True)
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


def _parse(row: str) -> JSON:
    try:
        return parse_json(row)
    except NotJson as error:
        raise ToolFailed(f"a row {error}, for example by `column::text`") from error


async def _prepare(connection: Connection, query: str, limit: int) -> PreparedStatement:
    # The query alone first: a query that closes our brackets is not a valid statement by itself.
    await connection.prepare(query)
    wrapped = (
        f"SELECT CASE WHEN octet_length(treadle_json) <= {MAX_ROW} THEN treadle_json END FROM ("
        # On lines of its own, because it may end in a comment.
        f"SELECT row_to_json(treadle_row)::text AS treadle_json FROM (\n{query}\n) AS treadle_row LIMIT {limit}"
        ") AS treadle_rows"
    )
    try:
        return await connection.prepare(wrapped)
    except asyncpg.PostgresSyntaxError as error:
        raise ToolFailed("the query must be one SELECT") from error


def _message_of(error: Exception) -> str:
    return str(error) if isinstance(error, CatalogError) else sql_message(error)


def _reason_of(error: Exception, config: SqlDatabase) -> str:
    """Return why a database cannot be reached, without the values of variables in its address."""
    return hide_variables(connection_fault(error) or _message_of(error), config.url)
