"""What a migration does before its transaction, while the older release goes on working.

A table that becomes a partition must be known to have only rows of its range. Postgres reads the
whole table for that. Here it does so without blocking readers or writers, and the migration itself
(0018) only changes the catalog. Each table passes three states, and each arrow is one statement:

    plain -> constraint not validated -> constraint validated -> partitioned (by the migration)

The indexes of migration 0028 are built in the same way: missing -> not valid -> valid. A build that was
interrupted is dropped, and begins again.

A process that dies at any point leaves one of these states, and the next `migrate` continues from there.
The older release works in all of them, with constraints until WIDTH has passed. Used by `migrate` and
`treadle doctor`.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from persistence.db.database import dsn
from persistence.db.ids import Prefix, first_id, moment_of
from persistence.db.partitions import PARTITIONED

WIDTH = timedelta(days=30)
"""How long runs are accepted after an interrupted migration that nobody repeats. Until this time has
passed, the rows of an upgraded database are deleted one by one, as before."""
LEAST_AHEAD = timedelta(days=7)
"""The least time until the end of the range with which a migration continues."""
LOCK_S = 0.1
"""Seconds between two attempts to lock."""
_ENDED, _IDLE = "('CANCELLED', 'COMPLETED', 'FAILED')", "('PAUSED', 'PENDING', 'WAITING')"
INDEXES = {
    "ix_runs_project_id_ended": f"runs (project_id, status, id) WHERE status IN {_ENDED}",
    "ix_runs_workflow_id_ended": f"runs (workflow_id, status, id) WHERE status IN {_ENDED}",
    "ix_runs_project_id_idle": f"runs (project_id, status, id) WHERE status IN {_IDLE}",
}
"""The indexes of migration 0028. They do not change: a later migration replaces them."""
REPLACED = "ix_runs_project_id_status_id"
"""An index that migration 0028 drops. The indexes above are built while it exists."""


async def prepare(url: str, lock: int) -> None:
    """Build the indexes of migration 0028, and validate the constraints of 0018. Nothing if they are there.

    Args:
        url: The database.
        lock: The key of the advisory lock of migrations.
    """
    connection = await asyncpg.connect(dsn(url))
    try:
        await _lock(connection, lock)
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", REPLACED):
            await _build_indexes(connection)
        for table in PARTITIONED:
            if await connection.fetchval(_IS_PLAIN, table):
                await _prepare(connection, table)
    finally:
        await connection.close()


async def undo(url: str) -> None:
    """Remove the constraints, because the migration has failed. The indexes refuse nothing, and stay."""
    connection = await asyncpg.connect(dsn(url))
    try:
        for table in PARTITIONED:
            if await connection.fetchval(_IS_PLAIN, table):
                await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_before")
    finally:
        await connection.close()


async def interrupted_until(url: str) -> datetime | None:
    """Return when runs are refused because a migration was interrupted, or None if none was."""
    connection = await asyncpg.connect(dsn(url), timeout=60)
    try:
        rows = await connection.fetch(_CONSTRAINTS, [f"{table}_before" for table in PARTITIONED])
    finally:
        await connection.close(timeout=60)
    return min((moment_of(_end(row)) for row in rows), default=None)


def end_of_range(now: datetime, last_id: str | None) -> str:
    """Return the end of the range of run ids of a table as it was before the migration.

    It is the first midnight after WIDTH, or after the last id if the clock of a host was wrong.
    """
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = first_id(Prefix.RUN, day + WIDTH + timedelta(days=1))
    return end if last_id is None or last_id < end else f"{last_id}0"


async def _lock(connection: asyncpg.Connection, key: int) -> None:
    """Wait for the lock. Not in Postgres: the build of an index waits for the end of every older statement,
    so a process that waits in one would wait for the process that waits for it."""
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", key):  # noqa: ASYNC110 (a database)
        await asyncio.sleep(LOCK_S)


async def _build_indexes(connection: asyncpg.Connection) -> None:
    """Build those that are not valid, without blocking writers. Their transactions delay it."""
    for name, definition in INDEXES.items():
        is_valid = await connection.fetchval(_IS_VALID, name)
        if is_valid is False:
            await connection.execute(f"DROP INDEX CONCURRENTLY {name}")
        if not is_valid:
            await connection.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")


async def _prepare(connection: asyncpg.Connection, table: str) -> None:
    now: datetime = await connection.fetchval("SELECT now()")
    last: str | None = await connection.fetchval(f"SELECT max(run_id) FROM {table}")
    name, constraint = f"{table}_before", await connection.fetchrow(_CONSTRAINT, table, f"{table}_before")
    if constraint is not None and _end(constraint) < first_id(Prefix.RUN, now + LEAST_AHEAD):
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        constraint = None
    if constraint is None:
        check = f"CHECK (run_id < '{end_of_range(now, last)}') NOT VALID"
        await connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {check}")
    if constraint is None or not constraint["convalidated"]:
        # This statement reads the table. It blocks neither readers nor writers.
        await connection.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def _end(constraint: Any) -> str:
    return str(constraint["definition"].split("'")[1])


_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"
_IS_PLAIN = "SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass($1)"
_CONSTRAINTS = """
SELECT convalidated, pg_get_constraintdef(oid) AS definition FROM pg_constraint
WHERE conname = ANY($1) AND contype = 'c' AND connamespace = current_schema()::regnamespace
"""
_CONSTRAINT = """
SELECT convalidated, pg_get_constraintdef(oid) AS definition FROM pg_constraint
WHERE conrelid = to_regclass($1) AND conname = $2
"""
