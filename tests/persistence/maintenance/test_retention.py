"""Retention: old data is deleted as a whole, newer data stays, and readers of deleted events are told."""

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
