"""Databases of tests: each test gets one in the state of the template.

A copy of the template takes 0.1 s of CPU. So the database of a test is emptied for the next one. It is
dropped instead if the test has changed its schema.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import asyncpg

from engine.states import TRANSITIONS, RunStatus


@dataclass
class CleanDatabases:
    """Databases that are in the state of the template.

    Args:
        template: URL of the migrated database `treadle`, to which nobody is connected.
        admin: A connection to another database of the server.
    """

    template: str
    admin: asyncpg.Connection
    _schema: str
    _rows: dict[str, list[asyncpg.Record]]
    _numbers: count = field(default_factory=count)
    _clean: list[str] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def of(cls, template: str) -> AsyncIterator["CleanDatabases"]:
        """The databases of a test process."""
        connection = await asyncpg.connect(template)
        schema, rows = await connection.fetchval(_SCHEMA), await _rows(connection)
        await connection.close()
        admin = await asyncpg.connect(template.replace("/treadle?", "/postgres?"))
        yield cls(template, admin, schema, rows)
        await admin.close()

    @asynccontextmanager
    async def clean(self) -> AsyncIterator[str]:
        """The URL of a clean database. Afterwards it contains no illegal change of a run's status."""
        name = self._clean.pop() if self._clean else await self._create()
        url = self.template.replace("/treadle?", f"/{name}?")
        yield url
        try:
            is_clean = await self._empty(url)
        except BaseException:
            await self._drop(name)
            raise
        if is_clean:
            self._clean.append(name)
        else:
            await self._drop(name)

    async def _create(self) -> str:
        name = f"test_{next(self._numbers)}"
        await self.admin.execute(f"CREATE DATABASE {name} TEMPLATE treadle STRATEGY FILE_COPY")
        return name

    async def _drop(self, name: str) -> None:
        await self.admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def _empty(self, url: str) -> bool:
        """Bring a database to the state of the template. False: its schema has changed."""
        connection = await asyncpg.connect(url)
        try:
            if await connection.fetchval("SELECT to_regclass('events')"):
                assert await _illegal_transitions(connection) == []
            if await connection.fetchval(_SCHEMA) != self._schema:
                return False
            await connection.execute(_DISCONNECT)
            await connection.execute(_TRUNCATE.format(kept=", ".join(f"'{table}'" for table in self._rows)))
            for table, rows in self._rows.items():
                await _write_rows(connection, table, rows)
            return True
        finally:
            await connection.close()


async def _illegal_transitions(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """Status changes in a test's database that the state machine does not have."""
    rows = await connection.fetch(_TRANSITIONS)
    changes = [(RunStatus(before), RunStatus(after)) for before, after in rows]
    return [(before, after) for before, after in changes if after not in TRANSITIONS[before]]


async def _rows(connection: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    """The rows of each table that is not empty."""
    tables = [row["name"] for row in await connection.fetch(_FULL_TABLES)]
    return {table: await connection.fetch(f"SELECT * FROM {table}") for table in tables}


async def _write_rows(connection: asyncpg.Connection, table: str, rows: list[asyncpg.Record]) -> None:
    """Replace the content of a table, unless it is this already."""
    if await connection.fetch(f"SELECT * FROM {table}") == rows:
        return
    await connection.execute(f"SET session_replication_role = replica; DELETE FROM {table}")
    await connection.copy_records_to_table(table, records=rows)


_TRANSITIONS = """
SELECT DISTINCT body->>'previous', body->>'status' FROM events
WHERE type = 'RUN_STATUS' AND body->>'previous' IS NOT NULL
"""
_FULL_TABLES = """
SELECT relname AS name FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0
"""
_DISCONNECT = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_TRUNCATE = """
DO $$
DECLARE tables text;
BEGIN
    SELECT string_agg(quote_ident(relname), ', ') INTO tables FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0
        AND relname NOT IN ({kept});
    IF tables IS NOT NULL THEN
        -- Without triggers: one refuses to empty the audit log.
        PERFORM set_config('session_replication_role', 'replica', true);
        EXECUTE 'TRUNCATE ' || tables || ' RESTART IDENTITY CASCADE';
    END IF;
    -- The planner's statistics of columns, which TRUNCATE keeps.
    DELETE FROM pg_statistic WHERE starelid >= 16384;
END $$
"""
_SCHEMA = """
SELECT md5(string_agg(part, chr(10) ORDER BY part)) FROM (
    SELECT concat_ws(' ', 'class', oid, relname, reloptions, relrowsecurity) FROM pg_class WHERE relkind <> 't'
        AND relpersistence <> 't'
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attname, atttypid, attnotnull) FROM pg_attribute
        WHERE attrelid >= 16384 AND attnum > 0
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, convalidated) FROM pg_constraint
    UNION ALL SELECT concat_ws(' ', 'function', oid, md5(prosrc)) FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgenabled) FROM pg_trigger
    UNION ALL SELECT concat_ws(' ', 'index', indexrelid, indisvalid) FROM pg_index
    UNION ALL SELECT concat_ws(' ', 'privilege', oid, relacl) FROM pg_class WHERE relacl IS NOT NULL
    UNION ALL SELECT concat_ws(' ', 'setting', setconfig) FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS parts(part)
"""
