"""Finished items of maps: written by the holder of the run, read by the next one."""

from typing import Any

import pytest
from redis.asyncio import Redis

from engine.events import NodeChange, NodeState
from engine.runtime.ports import Fenced
from engine.sdk.resources import DoneItem, MapVisit
from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.maintenance.retention import _ITEMS, prune_items
from persistence.runs.map_items import MapItemStore
from tests.journal_worker import HeldRun, accept_run, open_worker

ITEMS = [
    DoneItem(3, 2**63 - 1, '{"a":[1]}'),
    DoneItem(1, -(2**63), "null"),
    DoneItem(2, 0, None, {"code": "TEST", "message": "no", "retryable": True, "details": {"n": 1}}),
]


def visit_of(held: HeldRun, **changes: Any) -> MapVisit:
    return MapVisit(**{"run_id": held.run_id, "epoch": held.epoch, "lineage": 0, "node_id": "a", "visit": 1, **changes})


async def test_saved_items_are_read_by_the_next_worker(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    store, run = MapItemStore(database.pool), (await accept_run(database, caller, project)).run
    async with open_worker(database, redis) as worker:
        held = await worker.claim(run)
        await store.save(visit_of(held), ITEMS)
        await store.save(visit_of(held), [DoneItem(3, 1, "9"), DoneItem(4, 4, "4")])
        loaded = {item.index: item for item in await store.load(visit_of(held, epoch=held.epoch + 1))}
        assert loaded == {item.index: item for item in [*ITEMS, DoneItem(3, 1, "9"), DoneItem(4, 4, "4")]}
        for other in ({"visit": 2}, {"lineage": 1}, {"node_id": "b"}):
            assert await store.load(visit_of(held, **other)) == []


async def test_a_worker_that_lost_the_run_writes_nothing(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    store, run = MapItemStore(database.pool), (await accept_run(database, caller, project)).run
    async with open_worker(database, redis) as worker:
        held = await worker.claim(run)
        with pytest.raises(Fenced):
            await store.save(visit_of(held, epoch=held.epoch - 1), ITEMS)
        await held.finish()
        with pytest.raises(Fenced):
            await store.save(visit_of(held), ITEMS)
        assert await store.load(visit_of(held)) == []


async def test_finished_items_reset_the_count_of_lost_workers(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run = (await accept_run(database, caller, project)).run
    async with open_worker(database, redis) as worker:
        held = await worker.claim(run)
        await database.pool.execute("UPDATE runs SET crashes = 2, crashed_seq = 7")
        await MapItemStore(database.pool).save(visit_of(held), ITEMS)
        assert await database.pool.fetchval("SELECT crashed_seq FROM runs") is None


@pytest.mark.parametrize(
    ("state", "is_kept"),
    [
        (NodeState("", "a", NodeStatus.RUNNING, 1), True),
        (NodeState("", "a", NodeStatus.RETRYING, 1), True),
        (NodeState("", "a", NodeStatus.IDLE, 1), True),
        (NodeState("", "a", NodeStatus.COMPLETED, 1), False),
        (NodeState("", "a", NodeStatus.FAILED, 1), False),
        (NodeState("", "a", NodeStatus.RUNNING, 2), False),
    ],
)
async def test_items_are_deleted_when_their_map_is_finished(
    database: Database, redis: Redis, caller: Caller, project: str, state: NodeState, is_kept: bool
) -> None:
    store, run = MapItemStore(database.pool), (await accept_run(database, caller, project)).run
    async with open_worker(database, redis) as worker:
        held = await worker.claim(run)
        await store.save(visit_of(held), ITEMS)
        assert await prune_items(database.pool) == 0
        await held.record(NodeChange(NodeState(run.id, "a", state.status, state.visits)))
        assert await prune_items(database.pool) == (0 if is_kept else 3)


@pytest.mark.parametrize("why", ["the run is terminal", "the run was rewound"])
async def test_items_are_deleted_with_the_end_or_the_rewind_of_their_run(
    database: Database, redis: Redis, caller: Caller, project: str, why: str
) -> None:
    store, run = MapItemStore(database.pool), (await accept_run(database, caller, project)).run
    size = "SELECT stored_bytes FROM runs"
    async with open_worker(database, redis) as worker:
        held = await worker.claim(run)
        before = await database.pool.fetchval(size)
        await store.save(visit_of(held), ITEMS)
        counted = await database.pool.fetchval(size) - before
        if why == "the run is terminal":
            await held.finish(RunStatus.FAILED)
        else:
            await database.pool.execute("UPDATE runs SET lineage = 1")
        with_items = await database.pool.fetchval(size)
        assert await prune_items(database.pool) == 3
        assert with_items - await database.pool.fetchval(size) == counted > 0


async def test_deletable_items_are_found_without_scanning_every_item(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    fill = """INSERT INTO map_items (run_id, lineage, node_id, visit, idx, digest, output)
        SELECT $1, 0, node, visit, idx, 1, '{"a": [1, 2, 3]}'
        FROM unnest(ARRAY['a', 'b']) node, generate_series(1, 3) visit, generate_series(1, 10000) idx"""
    async with open_worker(database, redis) as worker:
        held = [await worker.claim((await accept_run(database, caller, project)).run) for _ in range(2)]
        for one in held:
            await database.pool.execute(fill, one.run_id)
        await database.pool.execute("ANALYZE map_items")
        [plan] = await database.pool.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_ITEMS.replace('$1', '100')}")
        pages = await database.pool.fetchval("SELECT pg_relation_size('map_items') / 8192")
        assert pages > 1000 > 300 > plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        await held[0].finish()
        assert [await prune_items(database.pool, batch=500) for _ in range(3)] == [50_000, 10_000, 0]
        assert await database.pool.fetchval("SELECT count(*) FROM map_items") == 60_000
