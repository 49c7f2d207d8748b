"""Runs that come to rest before their end: how they get there, and how their nodes stand then."""

import asyncio

from engine.drive import Drive
from engine.states import RunStatus
from persistence.database import Database


async def drive(taken: Drive) -> RunStatus | None:
    return await asyncio.wait_for(taken.run(), 20)


async def node_statuses(database: Database, run_id: str) -> dict[str, str]:
    rows = await database.pool.fetch("SELECT node_id, status FROM node_states WHERE run_id = $1", run_id)
    return {row["node_id"]: row["status"] for row in rows}
