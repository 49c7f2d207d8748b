"""The checkpoints inside a stretch: lists, states, forks and rewinds, as if each had a row of its own."""

import asyncio
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.events import NodeState
from engine.fork.frontier import find_due, read_frontier
from engine.graph.channels import NODE_RECORDS
from engine.graph.plan import make_plan
from engine.runtime.run_info import StopReason
from engine.spec.parser import parse
from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.checkpoints import snapshots
from persistence.checkpoints.rewind import rewind
from persistence.db.database import Database
from persistence.db.pagination import Page, PageRange
from persistence.events import history
from persistence.events.history import Checkpoint
from persistence.runs import node_states
from persistence.runs.related import RelatedRunsQuery, checkpoints_of
from tests.engine.graph.program_generator import draw_program
from tests.engine.graph.program_graph import graph_of
from tests.executor_worker import (
    ExecutorWorker,
    GatedNode,
    accept_spec,
    edges,
    node,
    node_types,
    run_summary,
    states_in_events,
)
from tests.samples import sample

CHAIN = {"nodes": [node(name) for name in "abcdef"], "edges": edges("a>b b>c c>d d>e e>f")}
GATED = {
    "nodes": [*(node(name) for name in "abcd"), {"id": "wait", "type": "gated"}, node("z")],
    "edges": edges("a>b b>c c>d d>wait wait>z"),
}
PAGE = 3


def program(seed: int) -> dict[str, Any]:
    """Return a random program of which some nodes run as tasks."""
    spec, random = graph_of(draw_program(seed, 14)[0]), Random(seed)
    for each in spec["nodes"]:
        if random.random() < 0.25:
            each["timeoutS"] = 60  # a node with a time limit is no inline node
    return spec


async def execute(database: Database, redis: Redis, run_id: str) -> RunStatus | None:
    async with ExecutorWorker(database, redis) as worker:
        return await asyncio.wait_for((await worker.claim(run_id)).run(), 20)


async def listed(database: Database, caller: Caller, run_id: str) -> list[Checkpoint]:
    """Return all checkpoints of a run, oldest first, read in pages, in both directions."""
    newest_first: list[Checkpoint] = []
    after: str | None = None
    while page := await read(database, caller, run_id, PageRange(PAGE, after)):
        newest_first += page.items
        after = page.items[-1].id
        assert page.has_next == bool(await read(database, caller, run_id, PageRange(PAGE, after)))
    oldest_first: list[Checkpoint] = []
    before: str | None = None
    while page := await read(database, caller, run_id, PageRange(PAGE, None, before, is_backward=True)):
        oldest_first += page.items[::-1]
        before = page.items[0].id
        assert page.has_previous == bool(await read(database, caller, run_id, PageRange(1, None, before)))
    assert oldest_first == newest_first[::-1]
    return oldest_first


async def read(database: Database, caller: Caller, run_id: str, range_: PageRange) -> Page[Checkpoint] | None:
    """Return a page of the checkpoints of a run; None if it is empty."""
    query = RelatedRunsQuery(run_id, range_)
    async with database.connect() as connection:
        page = (await checkpoints_of(connection, caller, [query]))[query]
    return page if page.items else None


async def states_at(database: Database, caller: Caller, checkpoint: Checkpoint) -> dict[str, NodeState]:
    place = (checkpoint.run_id, checkpoint.seq)
    async with database.connect() as connection:
        states = (await node_states.states_at(connection, caller, [place]))[place]
    return {state.node_id: state for state in states if state.status is not NodeStatus.IDLE}


async def test_a_chain_has_one_row_and_a_checkpoint_for_each_node(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, CHAIN)
    assert await execute(database, redis, run_id) is RunStatus.COMPLETED
    assert await database.pool.fetchval("SELECT count(*) FROM checkpoints WHERE run_id = $1", run_id) == 1
    checkpoints = await listed(database, caller, run_id)
    assert [one.step for one in checkpoints] == list(range(7))
    assert [one.next_nodes for one in checkpoints] == [["a"], ["b"], ["c"], ["d"], ["e"], ["f"], []]
    assert [one.parent_id for one in checkpoints] == [None, *(one.id for one in checkpoints[:-1])]
    assert [one.id for one in checkpoints] == sorted(one.id for one in checkpoints)
    for count, checkpoint in enumerate(checkpoints):
        assert sorted(await states_at(database, caller, checkpoint)) == list("abcdef")[:count]


@pytest.mark.parametrize("seed", range(8100, sample(8105, 8140)))
async def test_each_checkpoint_of_a_random_program_says_what_the_events_before_it_say(
    database: Database, redis: Redis, caller: Caller, project: str, seed: int
) -> None:
    spec = program(seed)
    run_id = await accept_spec(database, caller, project, spec)
    assert await execute(database, redis, run_id) is RunStatus.COMPLETED
    plan, checkpoints = make_plan(parse(spec)), await listed(database, caller, run_id)
    assert len({one.id for one in checkpoints}) == len(checkpoints)
    assert [one.step for one in checkpoints] == sorted(one.step for one in checkpoints)
    for checkpoint in checkpoints:
        async with database.connect() as connection:
            by_id = await history.checkpoints_by_id(connection, caller, [checkpoint.id])
            snapshot = await snapshots.read_checkpoint(connection, checkpoint, is_whole=bool(seed % 2))
        assert by_id == {checkpoint.id: checkpoint}
        assert snapshot is not None
        frontier = read_frontier(plan, snapshot.values)
        shown = {name: state.status for name, state in (await states_at(database, caller, checkpoint)).items()}
        assert {name: record.status for name, record in frontier.records.items()} == shown, checkpoint.step
        running = [name for name, status in shown.items() if status is NodeStatus.RUNNING]
        assert sorted(checkpoint.next_nodes) == sorted([*find_due(plan, frontier), *running]), checkpoint.step


async def pause_in_gate(database: Database, redis: Redis, caller: Caller, project: str) -> str:
    """Return a paused run. It has executed four nodes as one stretch, and a task."""
    run_id = await accept_spec(database, caller, project, GATED)
    gated = GatedNode()
    async with ExecutorWorker(database, redis, node_types(gated)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(executor.run())
        await asyncio.wait_for(gated.running.wait(), 10)
        await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
        executor.request(StopReason.PAUSE)
        gated.release.set()
        assert await asyncio.wait_for(running, 20) is RunStatus.PAUSED
    return run_id


async def finish(database: Database, redis: Redis, run_id: str) -> list[str]:
    """Execute a run to its end, and return the nodes that ran, in order."""
    before = await database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)
    gated = GatedNode()
    gated.release.set()
    async with ExecutorWorker(database, redis, node_types(gated)) as worker:
        assert await asyncio.wait_for((await worker.claim(run_id)).run(), 20) is RunStatus.COMPLETED
    states = await states_in_events(database, run_id)
    return [state.node_id for state in states if state.seq > before and state.status is NodeStatus.COMPLETED]


async def rewind_to(database: Database, caller: Caller, checkpoint: Checkpoint) -> None:
    async with database.begin() as connection:
        await rewind(connection, caller, checkpoint.run_id, checkpoint.id)


@pytest.mark.parametrize("at", range(7))
async def test_a_rewind_into_a_stretch_repeats_only_the_nodes_after_it(
    database: Database, redis: Redis, caller: Caller, project: str, at: int
) -> None:
    run_id = await pause_in_gate(database, redis, caller, project)
    before = await listed(database, caller, run_id)
    assert [one.step for one in before] == [0, 1, 2, 3, 4, 5, 5]
    await rewind_to(database, caller, before[at])
    after = await listed(database, caller, run_id)
    last_seq = await database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)
    assert [one.superseded_seq for one in after] == [None] * (at + 1) + [last_seq] * (6 - at)
    same = ("id", "seq", "step", "parent_id", "next_nodes", "lineage", "created_at")
    assert [[getattr(one, name) for name in same] for one in after] == [
        [getattr(one, name) for name in same] for one in before
    ]
    assert await finish(database, redis, run_id) == [*"abcd", "wait", "z"][min(at, 4) + (at == 6) :]
    assert (await run_summary(database, run_id))[0] == {"z": 1}


async def test_two_rewinds_into_one_stretch_continue_from_the_second(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await pause_in_gate(database, redis, caller, project)
    checkpoints = await listed(database, caller, run_id)
    await rewind_to(database, caller, checkpoints[3])
    await database.pool.execute("UPDATE runs SET status = 'PAUSED' WHERE id = $1", run_id)
    await rewind_to(database, caller, checkpoints[1])
    assert await finish(database, redis, run_id) == ["b", "c", "d", "wait", "z"]
    now = {one.id: one for one in await listed(database, caller, run_id)}
    async with database.connect() as connection:
        for at, checkpoint in enumerate(checkpoints[:5]):
            snapshot = await snapshots.read_checkpoint(connection, now[checkpoint.id], is_whole=False)
            assert snapshot is not None
            completed = [name for name, record in snapshot.values[NODE_RECORDS].items() if record.status.is_finished]
            assert completed == list("abcd")[:at]
