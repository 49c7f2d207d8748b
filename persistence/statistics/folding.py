"""Adds the ends of runs to the sums of their hours and days, and sums up months that are over.

A database trigger inserts a row of `run_ends` in the transaction that ends a run. No two of these
transactions share a row, so workers never wait for each other. Folding deletes rows and adds them to
the sums in one transaction: a crash leaves them unfolded. Readers add the rows that are left.

A month is open until `sum_months` has summed up its days. A change of one of its days opens it again, by
a database trigger. Readers read the days of an open month, so a crash at any line delays nothing but speed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg
import orjson

from persistence.db.advisory_locks import AdvisoryLock
from persistence.statistics.alert_sums import fold_for_rules
from persistence.statistics.counts import Counts, add, add_node, counts_of_end

BATCH = 500
MONTHS = 10
"""Months of one transaction. The event loop adds up to 31 days of each without a pause."""
HOURS_DAYS = 92
"""How long the sums of hours are kept, in days. Those of days and months are kept for ever."""
WHOLE_PROJECT = ""
"""In the place of a workflow: the sums of all runs of the project, those of no workflow included."""


class SumUnit(StrEnum):
    """The length of the period of a sum. All begin in UTC."""

    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"


@dataclass(frozen=True, slots=True)
class SumKey:
    """What a sum is of: a workflow or a whole project, a period by its unit, and a node or the whole run."""

    project_id: str
    workflow_id: str
    unit: SumUnit
    start: datetime
    node_id: str = ""


def sums_of(ends: Iterable[Mapping[str, Any]]) -> dict[SumKey, Counts]:
    """Return the sums of some rows of `run_ends`."""
    # Each end is counted once. The larger sums are made of the smallest ones.
    smallest: dict[tuple[str, str | None, datetime, str], Counts] = defaultdict(Counts)
    for end in ends:
        hour = end["finished_at"].replace(minute=0, second=0, microsecond=0)
        project_id, workflow_id = end["project_id"], end["workflow_id"]
        add(smallest[project_id, workflow_id, hour, ""], counts_of_end(end))
        if workflow_id is not None:
            for node_id, status, ms in end["nodes"] or ():
                add_node(smallest[project_id, workflow_id, hour, node_id], status, ms)
    sums: dict[SumKey, Counts] = defaultdict(Counts)
    for (project_id, workflow_id, hour, node_id), counts in smallest.items():
        for unit, start in ((SumUnit.HOUR, hour), (SumUnit.DAY, hour.replace(hour=0))):
            if workflow_id is not None:
                add(sums[SumKey(project_id, workflow_id, unit, start, node_id)], counts)
            if not node_id:
                add(sums[SumKey(project_id, WHOLE_PROJECT, unit, start)], counts)
    return sums


async def fold(pool: asyncpg.Pool, batch: int = BATCH, *, for_analytics: bool = False) -> int:
    """Fold some rows into their sums. Return their number: 0 also if another process folds now.

    Args:
        pool: Connections to Postgres.
        batch: How many rows.
        for_analytics: Whether to add their analytics events.
    """
    async with pool.acquire() as connection, connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", AdvisoryLock.STATISTICS):
            return 0
        ends = [dict(row) for row in await connection.fetch(_TAKE, batch, for_analytics)]
        if ends:
            await _add_to_stored(connection, sums_of(ends))
            await fold_for_rules(connection, ends)
        return len(ends)


async def _add_to_stored(connection: Any, sums: Mapping[SumKey, Counts]) -> None:
    for row in await connection.fetch(_STORED, *_columns(sums)):
        key = SumKey(*(row[name] for name in SumKey.__slots__))
        stored = Counts(row["counts"])
        add(stored, sums[key])
        sums[key].clear()
        sums[key].update(stored)
    await _store(connection, sums)


async def _store(connection: Any, sums: Mapping[SumKey, Counts]) -> None:
    await connection.execute(_STORE, *_columns(sums), [orjson.dumps(counts).decode() for counts in sums.values()])


def _columns(keys: Iterable[SumKey]) -> list[list[Any]]:
    return [[getattr(key, name) for key in keys] for name in SumKey.__slots__]


async def sum_months(pool: asyncpg.Pool, batch: int = MONTHS) -> int:
    """Sum up some open months that are over. Return their number: 0 also if another process folds now."""
    async with pool.acquire() as connection, connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", AdvisoryLock.STATISTICS):
            return 0
        sums: dict[SumKey, Counts] = defaultdict(Counts)
        for row in await connection.fetch(_DAYS_OF_OPEN, batch):
            key = SumKey(row["project_id"], row["workflow_id"], SumUnit.MONTH, row["start"], row["node_id"])
            add(sums[key], row["counts"])
        if sums:
            await _store(connection, sums)
        return len(sums)


async def prune_hours(pool: asyncpg.Pool, batch: int) -> int:
    """Delete the sums of old hours. Return their number."""
    return int(await pool.fetchval(_PRUNE, HOURS_DAYS, batch))


_TAKE = """
WITH oldest AS (SELECT id FROM run_ends ORDER BY id LIMIT $1),
taken AS (DELETE FROM run_ends e USING oldest WHERE e.id = oldest.id RETURNING e.*),
noted AS (
    INSERT INTO analytics_events (project_id, type, at, data)
    SELECT project_id, 'workflow_executed', finished_at, json_build_object('workflowId', workflow_id, 'runId', run_id,
        'mode', mode, 'source', source, 'status', status, 'code', code, 'durationMs', duration_ms)
    FROM taken WHERE $2::boolean AND run_id IS NOT NULL ORDER BY id
)
SELECT * FROM taken
"""
_KEYS = "unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[])"
_NAMES = ", ".join(SumKey.__slots__)
_STORED = f"SELECT {_NAMES}, counts FROM run_sums JOIN {_KEYS} AS k({_NAMES}) USING ({_NAMES})"
_STORE = f"""
INSERT INTO run_sums ({_NAMES}, counts)
SELECT {_NAMES}, counts::json FROM {_KEYS[:-1]}, $6::text[]) AS k({_NAMES}, counts)
ON CONFLICT ({_NAMES}) DO UPDATE SET counts = excluded.counts
"""
_DAYS_OF_OPEN = """
WITH open AS (
    SELECT project_id, workflow_id, start, node_id FROM run_sums
    WHERE counts IS NULL AND start < date_trunc('month', now(), 'UTC') ORDER BY start LIMIT $1
)
SELECT o.project_id, o.workflow_id, o.start, o.node_id, d.counts FROM open o JOIN run_sums d
    ON d.project_id = o.project_id AND d.workflow_id = o.workflow_id AND d.unit = 'DAY' AND d.node_id = o.node_id
        AND d.start >= o.start AND d.start < o.start + interval '31 days'
        AND date_trunc('month', d.start, 'UTC') = o.start
"""
_PRUNE = """
WITH old AS (
    SELECT ctid FROM run_sums WHERE unit = 'HOUR' AND start < now() - make_interval(days => $1) LIMIT $2
), gone AS (DELETE FROM run_sums s USING old WHERE s.ctid = old.ctid RETURNING 1)
SELECT count(*) FROM gone
"""
