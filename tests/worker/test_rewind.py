"""A rewind to any checkpoint: nodes that had finished do not run again, later ones do, in a new lineage."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.runtime.executor import RunExecutor
from engine.sdk.node import NodeContext, Output
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.checkpoints.rewind import rewind
from persistence.db.database import Database
from persistence.runs import node_states, waits
from persistence.runs.run import RunOptions
from tests.executor_worker import (
    ExecutorWorker,
    TickConfig,
    TickNode,
    accept_spec,
    all_checkpoints,
    edges,
    node,
    node_types,
    run_summary,
)


class RecordingNode(TickNode):
    """Records the idempotency keys of its calls."""

    name = "recording"

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def execute(self, config: TickConfig, ctx: NodeContext) -> Output:
        self.keys.append(ctx.idempotency_key)
        return await super().execute(config, ctx)


def recording(name: str, **fields: Any) -> dict[str, Any]:
    return {**node(name, "tick", **fields), "type": "recording"}


SPECS: dict[str, Any] = {
    "branches that join": {
        "nodes": [recording("a"), recording("b"), recording("c"), node("c2"), recording("j"), recording("stop")],
        "edges": edges("a>b a>c c>c2 b>j c2>j j>stop"),
    },
    "a loop": {
        "nodes": [recording("s"), node("h"), recording("w"), recording("x"), recording("stop")],
        "edges": edges("s>h h>w w>h w>x x>stop", w_h="w.output < 3", w_x="w.output >= 3"),
    },
}


async def execute(executor: RunExecutor) -> RunStatus | None:
    return await asyncio.wait_for(executor.run(), 20)


@pytest.mark.parametrize("name", SPECS)
async def test_a_rewind_to_any_checkpoint_gives_the_same_result_and_repeats_no_earlier_node(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    count = 100
    for index in range(count):
        kind = RecordingNode()
        run_id = await accept_spec(database, caller, project, SPECS[name], RunOptions(breakpoints=("stop",)))
        async with ExecutorWorker(database, redis, node_types(kind)) as worker:
            assert await execute(await worker.claim(run_id)) is RunStatus.PAUSED
            rows = await all_checkpoints(database, run_id)
            if index >= len(rows):
                break
            first, kind.keys = kind.keys, []
            async with database.begin() as connection:
                done = await node_states.outputs_at(connection, caller, run_id, rows[index].seq)
                await rewind(connection, caller, run_id, rows[index].id)
            status = await execute(await worker.claim(run_id))
            if status is RunStatus.PAUSED:
                await database.pool.execute("UPDATE runs SET resumed_step = 1000 WHERE id = $1", run_id)
                head = "SELECT max(step) FROM checkpoints WHERE run_id = $1 AND superseded_seq IS NULL"
                step = await database.pool.fetchval(head, run_id)
                status = await execute(await worker.claim(run_id, resumed_step=step))
            assert status is RunStatus.COMPLETED
        again = [key.split("/") for key in kind.keys]
        assert {lineage for _, lineage, *_ in again} <= {"1"}
        visits = [(one, visit) for _, _, one, visit in again]
        assert len(visits) == len(set(visits))
        before = {(one, str(v)) for one in done for v in range(1, (done[one] or 0) + 1) if one != "c2"}
        assert not before & set(visits), (index, before, visits)
        everything = {tuple(key.split("/")[2:]) for key in first} | {("stop", "1")}
        assert before | set(visits) >= everything
        output, _, numbers, _ = await run_summary(database, run_id)
        assert output == {"stop": 1}
        assert numbers == list(range(1, len(numbers) + 1))


async def test_a_rewind_restores_the_node_states_and_superseded_outputs_stay_readable(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, SPECS["a loop"], RunOptions(breakpoints=("stop",)))
    async with ExecutorWorker(database, redis, node_types(RecordingNode())) as worker:
        await execute(await worker.claim(run_id))
    rows = await all_checkpoints(database, run_id)
    last, middle = rows[-1], rows[len(rows) // 2]
    async with database.begin() as connection:
        then = (await node_states.states_at(connection, caller, [(run_id, middle.seq)]))[run_id, middle.seq]
        before = await node_states.outputs_at(connection, caller, run_id, last.seq)
        changed = await rewind(connection, caller, run_id, middle.id)
    assert (changed.run.status, changed.run.lineage) == (RunStatus.QUEUED, 1)
    async with database.connect() as connection:
        now = (await node_states.states(connection, caller, [run_id]))[run_id]
        completed = {state.node_id: (state.visits, state.output_seq) for state in now if state.status == "COMPLETED"}
        assert completed == {
            state.node_id: (state.visits, state.output_seq) for state in then if state.status == "COMPLETED"
        }
        assert await node_states.outputs_at(connection, caller, run_id, last.seq) == before
        assert await node_states.outputs_at(connection, caller, run_id, changed.run.last_seq) == (
            await node_states.outputs_at(connection, caller, run_id, middle.seq)
        )


async def test_a_rewind_to_before_an_answer_asks_the_question_again(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    ask = {"id": "ask", "type": "ask", "config": {"prompt": "Well?"}}
    beside = [node("b", "tick", 5), node("c", "tick", 5)]
    spec = {"nodes": [node("a"), ask, *beside, recording("stop")], "edges": edges("a>ask ask>stop a>b b>c")}
    run_id = await accept_spec(database, caller, project, spec, RunOptions(breakpoints=("stop",)))

    async def answer(value: str) -> None:
        async with database.begin() as connection:
            [wait] = await waits.open_waits(database.pool, run_id)
            await waits.answer(connection, caller, run_id, wait.id, value)

    async with ExecutorWorker(database, redis, node_types(RecordingNode())) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        checkpoint_id = await database.pool.fetchval(
            "SELECT id FROM checkpoints WHERE run_id = $1 ORDER BY seq DESC", run_id
        )
        await answer("first")
        assert await execute(await worker.claim(run_id)) is RunStatus.PAUSED
        async with database.begin() as connection:
            await rewind(connection, caller, run_id, checkpoint_id)
        async with database.connect() as connection:
            states = (await node_states.states(connection, caller, [run_id]))[run_id]
            assert {state.node_id: state.status for state in states}["ask"] == "WAITING"
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        await answer("second")
        assert await execute(await worker.claim(run_id)) is RunStatus.PAUSED
        async with database.connect() as connection:
            seq = await database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)
            assert (await node_states.outputs_at(connection, caller, run_id, seq))["ask"] == "second"
