"""Random graphs with loops, whose worker dies at some commits, end as they do without a crash."""

import asyncio
from random import Random

import pytest
from redis.asyncio import Redis

from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from tests.engine.checkpoint_history import MixNode, SlowMixNode, play
from tests.engine.runtime.test_random_graphs import draw_graph
from tests.executor_worker import ExecutorWorker, accept_spec, node_types, run_summary
from tests.worker.paused_runs import execute


@pytest.mark.parametrize("block", range(2))
async def test_a_random_graph_whose_worker_dies_ends_as_without_a_crash(
    database: Database, redis: Redis, caller: Caller, project: str, block: int
) -> None:
    for seed in range(300 + block, 324, 2):
        spec, random = draw_graph(seed), Random(seed)
        original = await play(spec)
        run_id = await accept_spec(database, caller, project, spec)
        async with ExecutorWorker(database, redis, node_types(MixNode([]), SlowMixNode([]))) as worker:
            for _ in range(3):
                crash = (random.randint(1, 6), random.random() < 0.5)
                await asyncio.gather(execute(await worker.claim(run_id, *crash)), return_exceptions=True)
                if (await run_summary(database, run_id))[3] != "RUNNING":
                    break
            else:
                await execute(await worker.claim(run_id))
        output, visits, numbers, status = await run_summary(database, run_id)
        assert (status, output) == (original.status, original.output), f"seed {seed}"
        assert numbers == list(range(1, len(numbers) + 1)), f"seed {seed}"
        if original.status is RunStatus.COMPLETED:
            completed = {(name, visit) for name, visit in visits if visits[name, visit]}
            assert completed <= set(original.ran), f"seed {seed}: {completed - set(original.ran)}"
