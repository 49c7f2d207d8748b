"""Helpers for tests of runs that are paused or wait, and continue later."""

import asyncio
from typing import Any

from engine.runtime.executor import RunExecutor
from engine.states import RunStatus
from persistence.db.database import Database


async def execute(executor: RunExecutor) -> RunStatus | None:
    return await asyncio.wait_for(executor.run(), 20)


async def node_statuses(database: Database, run_id: str) -> dict[str, str]:
    rows = await database.pool.fetch("SELECT node_id, status FROM node_states WHERE run_id = $1", run_id)
    return {row["node_id"]: row["status"] for row in rows}


async def resume(database: Database, run_id: str, *, step: bool = False) -> None:
    """Queue the run again, like resumeRun and stepRun."""
    await database.pool.execute(
        """UPDATE runs SET status = 'QUEUED', is_step = $2, resumed_step = coalesce((SELECT step FROM checkpoints
        WHERE run_id = $1 ORDER BY seq DESC LIMIT 1), -1) WHERE id = $1""",
        run_id,
        step,
    )


async def answer(database: Database, wait_id: str, value: Any) -> None:
    """Answer a wait, like resumeRun."""
    await database.pool.execute("UPDATE waits SET answer = $2, answered_at = now() WHERE id = $1", wait_id, value)
    await database.pool.execute(
        "UPDATE runs SET wake_at = now() FROM waits w WHERE runs.id = w.run_id AND w.id = $1", wait_id
    )
