"""Creates partitions of histories ahead, and drops a partition when all of its runs have expired.

Every worker does both from time to time; an advisory lock admits one at a time. Each change is one
transaction on one table, so a crash leaves the table as it was. A change whose locks are not free
within half a second is left for the next time. Until then new runs are stored in the default
partition, from which retention deletes row by row.
"""

from datetime import datetime, timedelta
from functools import partial

import asyncpg

from persistence.db.ids import Prefix, first_id
from persistence.db.partitions import PARTITIONED, Partition, change_partitions, create_partition, read_partitions

PARTS = 10
"""How many partitions the time of retention has. Each one makes the planning of a query dearer."""
WITHOUT_RETENTION = timedelta(days=30)
SHORTEST = timedelta(hours=1)
AHEAD = 2
"""How many partitions of the future there are."""
CLOCK_SLACK = timedelta(seconds=5)
"""How far the clock of a server that makes ids may be ahead of that of Postgres."""
MAX_MOVED_RUNS, MAX_MOVED_ROWS = 1_000, 100_000
"""What is moved at most from a partition that is dropped. The table is locked meanwhile."""


def partition_width(days: float | None) -> timedelta:
    """Return the width of new partitions for a retention of so many days; None for no end."""
    return WITHOUT_RETENTION if days is None else max(timedelta(days=days) / PARTS, SHORTEST)


async def create_ahead(pool: asyncpg.Pool, width: timedelta) -> list[str]:
    """Create the partitions of the next AHEAD widths that are missing. Return their names."""
    created: list[str] = []
    for table in PARTITIONED:
        created += await change_partitions(pool, partial(_create, table=table, width=width)) or []
    return created


async def _create(connection: asyncpg.Connection, table: str, width: timedelta) -> list[str]:
    now: datetime = await connection.fetchval("SELECT now()")
    partitions = await read_partitions(connection, table)
    start = partitions[-1].end if partitions else first_id(Prefix.RUN, now + CLOCK_SLACK)
    created: list[str] = []
    while start < first_id(Prefix.RUN, now + AHEAD * width):
        begins_at = max(Partition("", None, start).ends_at, now)
        end = first_id(Prefix.RUN, begins_at + width)
        start = await _after_default(connection, table, start, end, now)
        name = f"{table}_p{begins_at:%Y%m%d_%H%M%S}_{begins_at.microsecond // 1000:03}"
        await create_partition(connection, table, name, start, end)
        created.append(name)
        start = end
    return created


async def _after_default(connection: asyncpg.Connection, table: str, start: str, end: str, now: datetime) -> str:
    """Return `start`, or a later id if the default partition has rows from `start` on.

    It has some if no worker has created partitions for a while, or if the clock of a host that made
    ids was wrong. These rows stay there.
    """
    stored = f"SELECT max(run_id) FROM {table}_default WHERE run_id >= $1 AND run_id < $2"
    last: str | None = await connection.fetchval(stored, start, end)
    return start if last is None else max(f"{last}0", first_id(Prefix.RUN, now + CLOCK_SLACK))


async def expired_partitions(pool: asyncpg.Pool, table: str, before: datetime) -> list[Partition]:
    """Return the dated partitions all of whose runs were created before a moment."""
    return [one for one in await read_partitions(pool, table) if one.first is not None and one.ends_at <= before]


async def whole_partitions_before(pool: asyncpg.Pool, before: datetime) -> datetime:
    """Return the start of the partition that contains a moment: older runs are in older partitions.

    Runs that ended after it are left until the whole partition has expired, so that its rows need
    not be deleted one by one.
    """
    live = [one.starts_at for one in await read_partitions(pool, "events") if one.first and one.ends_at > before]
    return min([before, *(start for start in live if start is not None)])


async def drop_expired(pool: asyncpg.Pool, before: datetime) -> list[str]:
    """Drop the partitions whose runs were created before a moment, once retention has marked them.

    Rows of a few runs that are not expired move to the default partition. With more of them the
    partition stays. Return the names of dropped partitions.
    """
    dropped: list[str] = []
    for table in PARTITIONED:
        for one in await read_partitions(pool, table):
            if one.ends_at <= before and await _can_move(pool, await _unexpired(pool, one), one):
                dropped += await change_partitions(pool, partial(_drop, table=table, partition=one)) or []
    return dropped


async def _unexpired(connection: asyncpg.Pool | asyncpg.Connection, partition: Partition) -> list[str]:
    rows = await connection.fetch(_UNEXPIRED, partition.first or "", partition.end, MAX_MOVED_RUNS + 1)
    return [row["id"] for row in rows]


async def _can_move(connection: asyncpg.Pool | asyncpg.Connection, run_ids: list[str], partition: Partition) -> bool:
    if len(run_ids) > MAX_MOVED_RUNS:
        return False
    count = f"SELECT count(*) FROM (SELECT FROM {partition.name} WHERE run_id = ANY($1) LIMIT $2) x"
    return bool(await connection.fetchval(count, run_ids, MAX_MOVED_ROWS + 1) <= MAX_MOVED_ROWS)


async def _drop(connection: asyncpg.Connection, table: str, partition: Partition) -> list[str]:
    # Nobody can write to the table from here on, so what is read now is complete.
    await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    if partition not in await read_partitions(connection, table):
        return []
    run_ids = await _unexpired(connection, partition)
    if not await _can_move(connection, run_ids, partition):
        return []
    select = f"SELECT * FROM {partition.name} WHERE run_id = ANY($1)"
    await connection.execute(f"CREATE TEMPORARY TABLE moved (LIKE {table}) ON COMMIT DROP")
    await connection.execute(f"INSERT INTO moved {select}", run_ids)
    await connection.execute(f"DROP TABLE {partition.name}")
    await connection.execute(f"INSERT INTO {table} SELECT * FROM moved")
    return [partition.name]


_UNEXPIRED = "SELECT id FROM runs WHERE id >= $1 AND id < $2 AND pruned_at IS NULL LIMIT $3"
