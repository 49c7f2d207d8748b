"""Retention: old data is deleted as a whole, newer data stays, and readers of deleted events are told."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.states import NodeStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.feed.feed import Expired, Feed
from persistence.maintenance.retention import prune_history, prune_keys, prune_runs
from tests.journal_worker import accept_run, open_worker

PARTS = ("events", "node_states", "node_outputs", "checkpoints")


async def finished(database: Database, redis: Redis, caller: Caller, project: str, days_ago: int) -> str:
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        await held.node("a", NodeStatus.COMPLETED, output=1, has_output=True, visits=1)
        await held.checkpoint("ckp_" + held.run_id[4:], step=1, next_nodes=[])
        await held.finish()
    change = "UPDATE runs SET finished_at = now() - make_interval(days => $2) WHERE id = $1"
    await database.pool.execute(change, held.run_id, days_ago)
    return held.run_id


async def row_counts(database: Database, run_id: str) -> list[int]:
    return [await database.pool.fetchval(f"SELECT count(*) FROM {part} WHERE run_id = $1", run_id) for part in PARTS]


async def test_the_history_of_old_runs_is_deleted_and_the_rest_stays(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    old = [await finished(database, redis, caller, project, 40) for _ in range(3)]
    young = await finished(database, redis, caller, project, 5)
    active = (await accept_run(database, caller, project)).run.id
    assert [await prune_history(database.pool, 30, batch=2) for _ in range(3)] == [2, 1, 0]
    for run_id in old:
        assert await row_counts(database, run_id) == [0, 0, 0, 0]
        assert await database.pool.fetchval("SELECT output FROM runs WHERE id = $1", run_id) == {"ok": True}
    assert 0 not in await row_counts(database, young)
    assert (await row_counts(database, active))[0] == 1


async def test_a_reader_of_deleted_events_gets_the_start_of_the_history(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await finished(database, redis, caller, project, 40)
    last = await database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)
    await prune_history(database.pool, 30)
    feed = Feed(database, redis)
    items = [item async for item in feed.follow(run_id, 1)]
    await feed.close()
    assert [(item.seq, item.first_seq) for item in items if isinstance(item, Expired)] == [(1, last + 1)]
    assert len(items) == 1


async def test_old_runs_and_old_keys_are_deleted(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await finished(database, redis, caller, project, 100)
    young_id = await finished(database, redis, caller, project, 10)
    key = """INSERT INTO idempotency_keys (project_id, key, arguments_hash, run_id, created_at)
        VALUES ($1, $2, '', $3, now() - make_interval(hours => $4))"""
    await database.pool.execute(key, project, "old", young_id, 25)
    await database.pool.execute(key, project, "new", young_id, 23)
    assert await prune_runs(database.pool, 90) == 1
    assert await prune_keys(database.pool) == 1
    assert await row_counts(database, run_id) == [0, 0, 0, 0]
    assert [row["key"] for row in await database.pool.fetch("SELECT key FROM idempotency_keys")] == ["new"]


@pytest.mark.parametrize("parent", ["version", "project"])
async def test_the_history_of_runs_is_deleted_with_what_they_belong_to(
    parent: str, database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_ids = [await finished(database, redis, caller, project, 1) for _ in range(3)]
    for run_id in run_ids:
        assert 0 not in await row_counts(database, run_id)
    await database.pool.execute(f"DELETE FROM {parent}s WHERE id IN (SELECT {parent}_id FROM runs)")
    for run_id in run_ids:
        assert await row_counts(database, run_id) == [0, 0, 0, 0]


async def test_no_run_is_deleted_between_the_lock_of_a_writer_and_its_rows(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    """History has no foreign key, so a writer that has locked the run must keep it alive."""
    run_id = await finished(database, redis, caller, project, 1)
    async with database.pool.acquire() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("UPDATE runs SET last_seq = last_seq + 1 WHERE id = $1", run_id)
        deleting = asyncio.ensure_future(database.pool.execute("DELETE FROM runs WHERE id = $1", run_id))
        await _until_blocked(writer)
        row = "INSERT INTO events (run_id, seq, type, body) VALUES ($1, 1000, 'LOG', '{}')"
        await writer.execute(row, run_id)
        await transaction.commit()
    assert await deleting == "DELETE 1"
    assert await row_counts(database, run_id) == [0, 0, 0, 0]


async def _until_blocked(connection: Any) -> None:
    """Wait until another statement waits for a lock."""
    for _ in range(10_000):
        if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            return
    raise AssertionError("no statement waits for a lock")
