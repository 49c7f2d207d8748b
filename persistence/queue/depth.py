"""How many runs are active and queued, and how long the oldest one has been queued."""

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from engine.states import TERMINAL, RunStatus, sql_list


@dataclass(frozen=True, slots=True)
class QueueState:
    """The runs that have not ended."""

    counts: Mapping[RunStatus, int]
    oldest_s: float
    """Seconds since the first of the QUEUED runs was queued; 0 if none is QUEUED."""


async def queue_state(pool: asyncpg.Pool) -> QueueState:
    """Read the number of active runs by status, and the age of the queue."""
    rows = await pool.fetch(_COUNTS)
    oldest_s = await pool.fetchval(_OLDEST)
    return QueueState({RunStatus(row["status"]): row["count"] for row in rows}, float(oldest_s or 0))


_COUNTS = f"SELECT status, count(*) AS count FROM runs WHERE status NOT IN {sql_list(TERMINAL)} GROUP BY status"
# The queue is sorted by concurrency key and priority, and inside of them by time. So the first run
# of each pair is enough (a loose index scan), however many runs are queued.
_FIRST = "SELECT lane, priority, queued_at FROM runs WHERE status = 'QUEUED'"
_OLDEST = f"""
WITH RECURSIVE firsts AS (
    ({_FIRST} ORDER BY lane, priority DESC, queued_at, id LIMIT 1)
    UNION ALL
    SELECT n.* FROM firsts f CROSS JOIN LATERAL (
        ({_FIRST} AND lane = f.lane AND priority < f.priority ORDER BY priority DESC, queued_at, id LIMIT 1)
        UNION ALL
        ({_FIRST} AND lane > f.lane ORDER BY lane, priority DESC, queued_at, id LIMIT 1)
        LIMIT 1
    ) n
)
SELECT extract(epoch FROM now() - min(queued_at)) FROM firsts
"""
