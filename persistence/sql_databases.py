"""Reads other databases for the tools `sql:<name>`: one SELECT in a READ ONLY transaction, bounded in time, rows and bytes.

What the query is wrapped in is what keeps it to one SELECT: nothing else can stand inside a FROM. What a role may do beyond
reading, by functions, is up to whoever grants it; see docs/tools.md.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy
from asyncpg.prepared_stmt import PreparedStatement

from engine.catalog_file import CatalogError, SqlDatabase, expand_variables
from engine.errors import NodeFailure
from engine.sdk.tool import ToolFailed
from engine.types import JSON
from persistence.db.database import dsn

CONNECTIONS = 4
"""For one database, in each process."""
CONNECT_S = 10.0
BATCH = 50
MAX_ROW = 256 * 1024
MAX_BYTES = 4 * 1024 * 1024
_AS_TEXT = (
    "bool", "date", "float4", "float8", "int2", "int4", "int8", "interval", "json", "jsonb", "numeric", "time", "timestamp",
    "timestamptz", "timetz", "uuid",
)  # fmt: skip
"""Types whose parameters go as text: Postgres reads them, as it would in psql."""


_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
"""Narrower than `persistence.db.transient`: of somebody else's database a write or a wrong number of values is the
author's mistake."""


class Databases:
    """One pool a database, opened when it is first read."""

    def __init__(self, configs: Mapping[str, SqlDatabase]) -> None:
        self._configs = configs
        self._pools: dict[str, asyncpg.Pool] = {}
        self._opening = asyncio.Lock()

    async def read(self, name: str, query: str, parameters: list[JSON], max_rows: int) -> list[JSON]:
        config = self._configs[name]
        try:
            # The database holds its own limit first, and says so in its own words.
            async with asyncio.timeout(CONNECT_S + config.timeout_s), (await self._pool(name)).acquire() as connection:
                return await _read(connection, config, query.strip().rstrip(";"), parameters, max_rows + 1)
        except (TimeoutError, asyncpg.QueryCanceledError):
            told = f"the query of {name!r} did not finish within {config.timeout_s:g} s"
            raise NodeFailure("TIMEOUT", told, retryable=True) from None
        except (*_AWAY, CatalogError) as fault:
            raise NodeFailure(
                "TOOL_FAILED", f"the database {name!r} is away: {_said(fault)}", retryable=True
            ) from fault
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as wrong:
            raise ToolFailed(_said(wrong)) from wrong

    async def _pool(self, name: str) -> asyncpg.Pool:
        async with self._opening:
            if name not in self._pools:
                url = dsn(expand_variables(self._configs[name].url))
                self._pools[name] = await asyncpg.create_pool(
                    url, min_size=0, max_size=CONNECTIONS, timeout=CONNECT_S, init=_prepare
                )
            return self._pools[name]

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()


@asynccontextmanager
async def open_databases(configs: Mapping[str, SqlDatabase]) -> AsyncIterator[Databases]:
    databases = Databases(configs)
    try:
        yield databases
    finally:
        await databases.close()


Connection = asyncpg.Connection | PoolConnectionProxy


async def _prepare(connection: asyncpg.Connection) -> None:
    for kind in _AS_TEXT:
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=_as_text, decoder=str, format="text")


def _as_text(value: JSON) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


async def _read(
    connection: Connection, config: SqlDatabase, query: str, parameters: list[JSON], limit: int
) -> list[JSON]:
    rows: list[JSON] = []
    size = 0
    async with connection.transaction(readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = {int(config.timeout_s * 1000)}")
        async for (row,) in (await _prepared(connection, query, limit)).cursor(*parameters, prefetch=BATCH):
            if row is None:
                raise ToolFailed(f"a row is larger than {MAX_ROW // 1024} KiB")
            size += len(row)
            if size > MAX_BYTES:
                raise ToolFailed(f"the rows are larger than {MAX_BYTES // 1024 // 1024} MiB; ask for fewer")
            rows.append(orjson.loads(row))
    return rows


async def _prepared(connection: Connection, query: str, limit: int) -> PreparedStatement:
    # By itself first: one that closes our brackets is no statement of its own.
    await connection.prepare(query)
    wrapped = (
        f"SELECT CASE WHEN octet_length(treadle_json) <= {MAX_ROW} THEN treadle_json END FROM ("
        # Lines of its own: it may end in a comment.
        f"SELECT row_to_json(treadle_row)::text AS treadle_json FROM (\n{query}\n) AS treadle_row LIMIT {limit}"
        ") AS treadle_rows"
    )
    try:
        return await connection.prepare(wrapped)
    except asyncpg.PostgresSyntaxError as wrong:
        raise ToolFailed("the query must be one SELECT") from wrong


def _said(fault: Exception) -> str:
    return (str(fault) or type(fault).__name__)[:1000]
