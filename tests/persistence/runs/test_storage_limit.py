"""A run that has stored too many bytes fails, and says what to do; what it has stored stays."""

from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from tests.executor_worker import GatedNode, accept_spec, edges, node_types
from tests.worker.running_worker import ended, running
from worker.heartbeat import Heartbeat

SIZE = 50_000
TEXT = {"type": "transform", "config": {"output": "{{ 'x' * 50000 }}"}}
MAPPED = {"type": "map", "config": {"items": [1, 2], "node": TEXT}}


def chain(*nodes: dict[str, Any]) -> dict[str, Any]:
    ids = [f"n{number}" for number in range(len(nodes))]
    links = " ".join(f"{one}>{other}" for one, other in pairwise(ids))
    return {"nodes": [{"id": id, **node} for id, node in zip(ids, nodes, strict=True)], "edges": edges(links)}


async def test_a_run_counts_what_it_stores(database: Database, caller: Caller, project: str, redis: Redis) -> None:
    run_id = await accept_spec(database, caller, project, chain(TEXT, MAPPED))
    async with running(database, redis, max_stored_bytes=100 * SIZE) as runner:
        runner.poll()
        row = await ended(database, run_id)
    assert row["status"] == RunStatus.COMPLETED
    # The outputs of three visits, the items of the map, and the output of the run; checkpoints may repeat them.
    assert 3 * SIZE < row["stored_bytes"] < 20 * SIZE


@pytest.mark.parametrize("is_held", [True, False])
async def test_a_run_that_has_stored_too_much_fails(
    database: Database, caller: Caller, project: str, redis: Redis, is_held: bool
) -> None:
    gate = GatedNode()
    run_id = await accept_spec(database, caller, project, chain(TEXT, {"type": "gated"}))
    if not is_held:  # It is claimed again: one that often waits is held by no worker for long.
        await database.pool.execute("UPDATE runs SET stored_bytes = $2 WHERE id = $1", run_id, SIZE)
    async with running(database, redis, node_types(gate), max_stored_bytes=SIZE - 1) as runner:
        runner.poll()
        if is_held:
            await gate.running.wait()
            await Heartbeat(runner, database.pool, interval_s=10).beat()
        row = await ended(database, run_id)
    assert (row["status"], row["error"]["code"]) == (RunStatus.FAILED, "STORAGE_LIMIT")
    assert "TREADLE_RUN_STORAGE_MB" in row["error"]["message"]
    assert gate.running.is_set() is is_held
    outputs = "SELECT count(*) FROM node_outputs WHERE run_id = $1"
    assert await database.pool.fetchval(outputs, run_id) == int(is_held)
