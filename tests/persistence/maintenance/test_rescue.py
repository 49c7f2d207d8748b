"""Runs whose worker is gone, and runs whose time is over: each ends in the status that the state machine gives it."""

from typing import Any

import pytest
from redis.asyncio import Redis

from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.maintenance.presence import expire_leases_of
from persistence.maintenance.rescue import rescue_expired
from persistence.maintenance.timers import end_overdue, wake_due
from tests.journal_worker import Held, accepted, working

S = RunStatus


async def lose(database: Database, run_id: str) -> None:
    await database.pool.execute("UPDATE runs SET lease_until = now() - interval '1 s' WHERE id = $1", run_id)


async def row(database: Database, run_id: str) -> dict[str, Any]:
    return dict(await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", run_id))


async def told(database: Database, run_id: str) -> list[tuple[int, str, str | None, str]]:
    rows = await database.pool.fetch(
        "SELECT seq, type, node_id, body FROM events WHERE run_id = $1 ORDER BY seq", run_id
    )
    return [(one["seq"], one["type"], one["node_id"], one["body"].get("status", "")) for one in rows]


async def held(database: Database, redis: Redis, caller: Caller, project: str, status: RunStatus) -> Held:
    """A run that a worker held at `status`, with one node running, and lost."""
    async with working(database, redis) as worker:
        taken = await worker.takes_up((await accepted(database, caller, project)).run)
        await taken.node("a", NodeStatus.RUNNING)
    await database.pool.execute("UPDATE runs SET status = $2 WHERE id = $1", taken.run_id, status)
    await lose(database, taken.run_id)
    return taken


@pytest.mark.parametrize(
    ("status", "follows", "node"),
    [(S.RUNNING, S.QUEUED, "RUNNING"), (S.PAUSING, S.PAUSED, "IDLE"), (S.CANCELLING, S.CANCELLED, "CANCELLED")],
)
async def test_a_lost_run_goes_where_it_was_asked_to_go_and_no_node_says_that_it_runs(
    database: Database, redis: Redis, caller: Caller, project: str, status: RunStatus, follows: RunStatus, node: str
) -> None:
    taken = await held(database, redis, caller, project, status)
    before = await row(database, taken.run_id)
    [transition] = await rescue_expired(database, 5)
    after = await row(database, taken.run_id)
    assert (after["status"], after["epoch"], after["worker_id"]) == (follows, before["epoch"] + 1, None)
    events = await told(database, taken.run_id)
    assert [seq for seq, *_ in events] == list(range(1, after["last_seq"] + 1))
    assert events[-1][3] == follows
    assert [event.seq for event in transition.events] == [seq for seq, *_ in events if seq > before["last_seq"]]
    assert (await database.pool.fetchval("SELECT status FROM node_states")) == node
    assert ((taken.run_id, "a") in {(taken.run_id, one[2]) for one in events[before["last_seq"] :]}) == (
        follows is not S.QUEUED
    )
    assert await rescue_expired(database, 5) == []


async def test_a_run_that_loses_worker_after_worker_without_getting_on_fails_with_crash_loop(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with working(database, redis) as worker:
        run = (await accepted(database, caller, project)).run
        for lost in range(1, 4):
            await worker.takes_up(run)
            await lose(database, run.id)
            await rescue_expired(database, 3)
            stands = await row(database, run.id)
            assert stands["status"] == ("QUEUED" if lost < 3 else "FAILED")
    assert stands["error"]["code"] == "CRASH_LOOP"
    assert stands["crashes"] == 3


async def test_a_run_that_finishes_something_between_crashes_is_in_no_loop(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with working(database, redis) as worker:
        run = (await accepted(database, caller, project)).run
        for visit in range(6):
            taken = await worker.takes_up(run)
            await taken.node("a", NodeStatus.COMPLETED, visits=visit + 1, output=visit, has_output=True)
            await lose(database, run.id)
            await rescue_expired(database, 3)
            assert (await row(database, run.id))["status"] == "QUEUED"


async def test_leases_of_a_dead_worker_end_at_once(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with working(database, redis) as worker:
        run = (await accepted(database, caller, project)).run
        await worker.takes_up(run)
        register = "INSERT INTO workers (id, lock_key, host, pid) VALUES ('worker', 1, 'host', 1)"
        await database.pool.execute(register)
        assert await rescue_expired(database, 5) == []
        assert await expire_leases_of(database.pool, ["worker"]) == ["worker"]
        [transition] = await rescue_expired(database, 5)
    assert transition.status is S.QUEUED


@pytest.mark.parametrize(
    ("status", "column", "follows"),
    [
        (S.PENDING, "deadline_at", S.CANCELLED),
        (S.PAUSED, "deadline_at", S.CANCELLED),
        (S.WAITING, "deadline_at", S.CANCELLED),
        (S.QUEUED, "timeout_at", S.FAILED),
        (S.WAITING, "timeout_at", S.FAILED),
        (S.PAUSED, "timeout_at", S.PAUSED),
        (S.WAITING, "wake_at", S.QUEUED),
        (S.QUEUED, "wake_at", S.QUEUED),
    ],
)
async def test_what_a_passed_moment_means_in_each_status(
    database: Database, caller: Caller, project: str, status: RunStatus, column: str, follows: RunStatus
) -> None:
    run = (await accepted(database, caller, project)).run
    change = f"UPDATE runs SET status = $2, {column} = now() - interval '1 s' WHERE id = $1"
    await database.pool.execute(change, run.id, status)
    transitions = [*await wake_due(database), *await end_overdue(database)]
    after = await row(database, run.id)
    assert after["status"] == follows
    assert len(transitions) == (0 if follows is status else 1)
    assert [seq for seq, *_ in await told(database, run.id)] == list(range(1, after["last_seq"] + 1))
