"""The partitions of the three large tables of histories, and how they are created and read.

Each table is partitioned by ranges of `run_id`, which begins with the time of the run. A **dated**
partition holds the runs of some days. `<table>_default` holds the runs of all other times, so no
run is ever refused because a partition is missing. `<table>_before` holds what was stored before the
tables were partitioned. The bounds are read from Postgres only; each table has its own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import structlog

from persistence.db.advisory_locks import AdvisoryLock
from persistence.db.ids import moment_of

log = structlog.get_logger(__name__)

PARTITIONED = ("events", "node_outputs", "checkpoints")
PER_PARTITION = {"checkpoints": "CREATE UNIQUE INDEX ON {name} (id)"}
"""Indexes that a partition has and its table has not: a unique index of a partitioned table would need
`run_id` as well."""
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"
"""How long a change of partitions may wait for a lock. All other statements wait behind it."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition with the run ids from `first` up to `end`, which it does not include.

    `first` is None for the partition of all rows before the tables were partitioned.
    """

    name: str
    first: str | None
    end: str

    @property
    def starts_at(self) -> datetime | None:
        return None if self.first is None else moment_of(self.first)

    @property
    def ends_at(self) -> datetime:
        return moment_of(self.end)


async def read_partitions(connection: Any, table: str) -> list[Partition]:
    """Return the partitions of a table with a range, oldest first: all but the default one."""
    rows = await connection.fetch(_PARTITIONS, table)
    partitions = [Partition(row["name"], row["first"], row["end"]) for row in rows]
    return sorted(partitions, key=lambda one: one.end)


async def create_partition(connection: asyncpg.Connection, table: str, name: str, first: str, end: str) -> None:
    """Create a partition for the run ids from `first` up to `end`.

    Raises asyncpg.CheckViolationError if the default partition has rows of this range.
    """
    keys = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS"
    await connection.execute(f"CREATE TABLE {name} (LIKE {table} {keys}, PRIMARY KEY (run_id, seq))")
    if table in PER_PARTITION:
        await connection.execute(PER_PARTITION[table].format(name=name))
    # ATTACH locks only the default partition; CREATE TABLE ... PARTITION OF would lock the whole table.
    await connection.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{first}') TO ('{end}')")


async def change_partitions(pool: asyncpg.Pool, change: Callable[[Any], Awaitable[list[str]]]) -> list[str] | None:
    """Call `change` in a transaction of its own, with the lock of such changes.

    Returns:
        The names that it returned, or None if it could not be made now: another worker changes
        partitions, the locks were not free within LOCK_TIMEOUT, or the role does not own the tables.
    """
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_TIMEOUT)
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", AdvisoryLock.PARTITIONS):
                return None
            return await change(connection)
    except asyncpg.InsufficientPrivilegeError as error:
        log.warning("partitions.not_changed", error=str(error), fix="let the role of the workers own the tables")
    except (asyncpg.LockNotAvailableError, asyncpg.CheckViolationError) as error:
        log.info("partitions.later", why=str(error))
    return None


_PARTITIONS = r"""
SELECT c.relname AS name, substring(b.bound FROM $p$FROM \('([^']+)'\)$p$) AS first,
    substring(b.bound FROM $p$TO \('([^']+)'\)$p$) AS "end"
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS b(bound)
WHERE i.inhparent = to_regclass($1) AND b.bound <> 'DEFAULT'
"""
