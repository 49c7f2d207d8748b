"""What runs wait for, as rows: timers and questions. The journal opens and settles them; here they are read and answered."""

from typing import Any

import asyncpg

from engine.nodes.base import Output
from engine.ports import OpenWait
from engine.states import WaitKind


async def open_waits(pool: asyncpg.Pool, run_id: str) -> list[OpenWait]:
    """For who drives the run: its open waits, oldest first, with the answers that have come."""
    rows = await pool.fetch(_OPEN, run_id)
    return [_open_wait(row) for row in rows]


def _open_wait(row: Any) -> OpenWait:
    outcome = row["outcome"]
    return OpenWait(
        row["id"],
        row["node_id"],
        row["visit"],
        WaitKind(row["kind"]),
        row["since"],
        row["until"],
        None if outcome is None else Output(outcome["value"], outcome["port"]),
        row["prompt"],
        row["schema"],
        row["answer"],
        row["answered_at"] is not None,
    )


_OPEN = "SELECT * FROM waits WHERE run_id = $1 AND settled_seq IS NULL AND superseded_seq IS NULL ORDER BY seq, id"
