"""What waits outside of the queue of runs: due triggers, kept events and deliveries. Read only, for metrics."""

from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the whole database."""

    trigger_lag_s: float
    """Seconds for which the first of the due triggers has been due; 0 if none is due."""
    kept_events: int
    """Events that no run has waited for yet."""
    pending_deliveries: int
    """Messages to endpoints that are not delivered yet."""


async def read_backlog(pool: asyncpg.Pool) -> Backlog:
    """Read what waits. Each count has an index of what waits only."""
    [row] = await pool.fetch(_BACKLOG)
    return Backlog(float(row["lag_s"]), row["kept"], row["pending"])


_BACKLOG = """
SELECT
    coalesce((SELECT greatest(0, extract(epoch FROM now() - min(next_fire_at))) FROM triggers
        WHERE enabled AND next_fire_at IS NOT NULL), 0) AS lag_s,
    (SELECT count(*) FROM signals WHERE status = 'KEPT') AS kept,
    (SELECT count(*) FROM deliveries WHERE status = 'PENDING') AS pending
"""
