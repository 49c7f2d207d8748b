"""Runs whose worker is gone or whose time is up get the status that the state machine defines."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.maintenance.presence import expire_leases_of
from persistence.maintenance.rescue import rescue_expired
from persistence.maintenance.timers import end_overdue, wake_due
from tests.journal_worker import HeldRun, accept_run, open_worker

S = RunStatus


async def expire_lease(database: Database, run_id: str) -> None:
    await database.pool.execute("UPDATE runs SET lease_until = now() - interval '1 s' WHERE id = $1", run_id)


async def row(database: Database, run_id: str) -> dict[str, Any]:
    return dict(await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", run_id))


async def event_summaries(database: Database, run_id: str) -> list[tuple[int, str, str | None, str]]:
    rows = await database.pool.fetch(
        "SELECT seq, type, node_id, body FROM events WHERE run_id = $1 ORDER BY seq", run_id
    )
    return [(one["seq"], one["type"], one["node_id"], _status(one)) for one in rows]


def _status(event: Any) -> str:
    return str(event["body"].get("status", "COMPLETED" if event["type"] == "NODE_STATE" else ""))


async def lost_run(database: Database, redis: Redis, caller: Caller, project: str, status: RunStatus) -> HeldRun:
    """A run in `status` with one running node, whose lease has expired."""
    async with open_worker(database, redis) as worker:
        held = await worker.claim((await accept_run(database, caller, project)).run)
        await held.node("a", NodeStatus.RUNNING)
    await database.pool.execute("UPDATE runs SET status = $2 WHERE id = $1", held.run_id, status)
    await expire_lease(database, held.run_id)
    return held


@pytest.mark.parametrize(
    ("status", "follows", "node"),
    [(S.RUNNING, S.QUEUED, "RUNNING"), (S.PAUSING, S.PAUSED, "IDLE"), (S.CANCELLING, S.CANCELLED, "CANCELLED")],
)
async def test_a_lost_run_gets_the_requested_status_and_shows_no_running_node(
    database: Database, redis: Redis, caller: Caller, project: str, status: RunStatus, follows: RunStatus, node: str
) -> None:
    held = await lost_run(database, redis, caller, project, status)
    before = await row(database, held.run_id)
    [transition] = await rescue_expired(database, 5)
    after = await row(database, held.run_id)
    assert (after["status"], after["epoch"], after["worker_id"]) == (follows, before["epoch"] + 1, None)
    events = await event_summaries(database, held.run_id)
    assert [seq for seq, *_ in events] == list(range(1, after["last_seq"] + 1))
    assert events[-1][3] == follows
    assert [event.seq for event in transition.events] == [seq for seq, *_ in events if seq > before["last_seq"]]
    assert (await database.pool.fetchval("SELECT status FROM node_states")) == node
    assert ((held.run_id, "a") in {(held.run_id, one[2]) for one in events[before["last_seq"] :]}) == (
        follows is not S.QUEUED
    )
    assert await rescue_expired(database, 5) == []


async def test_a_run_whose_workers_die_without_progress_fails_with_crash_loop(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with open_worker(database, redis) as worker:
        run = (await accept_run(database, caller, project)).run
        for lost in range(1, 4):
            await worker.claim(run)
            await expire_lease(database, run.id)
            await rescue_expired(database, 3)
            after = await row(database, run.id)
            assert after["status"] == ("QUEUED" if lost < 3 else "FAILED")
    assert after["error"]["code"] == "CRASH_LOOP"
    assert after["crashes"] == 3


async def test_a_run_that_makes_progress_between_crashes_is_not_in_a_crash_loop(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with open_worker(database, redis) as worker:
        run = (await accept_run(database, caller, project)).run
        for visit in range(6):
            held = await worker.claim(run)
            await held.node("a", NodeStatus.COMPLETED, visits=visit + 1, output=visit, has_output=True)
            await expire_lease(database, run.id)
            await rescue_expired(database, 3)
            assert (await row(database, run.id))["status"] == "QUEUED"


async def test_the_leases_of_a_dead_worker_expire_at_once(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    async with open_worker(database, redis) as worker:
        run = (await accept_run(database, caller, project)).run
        await worker.claim(run)
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
async def test_a_passed_time_has_the_defined_effect_in_each_status(
    database: Database, caller: Caller, project: str, status: RunStatus, column: str, follows: RunStatus
) -> None:
    run = (await accept_run(database, caller, project)).run
    change = f"UPDATE runs SET status = $2, {column} = now() - interval '1 s' WHERE id = $1"
    await database.pool.execute(change, run.id, status)
    transitions = [*await wake_due(database), *await end_overdue(database)]
    after = await row(database, run.id)
    assert after["status"] == follows
    codes = {S.CANCELLED: "DEADLINE", S.FAILED: "TIMEOUT"}
    assert (after["error"] or {}).get("code") == codes.get(follows)
    assert len(transitions) == (0 if follows is status else 1)
    assert [seq for seq, *_ in await event_summaries(database, run.id)] == list(range(1, after["last_seq"] + 1))


@pytest.mark.parametrize("idle", [timedelta(days=30), None])
@pytest.mark.parametrize(("child_status", "follows"), [(S.WAITING, S.WAITING), (S.FAILED, S.CANCELLED)])
async def test_the_deadline_of_a_parent_is_extended_while_its_child_is_active(
    database: Database,
    caller: Caller,
    project: str,
    child_status: RunStatus,
    follows: RunStatus,
    idle: timedelta | None,
) -> None:
    database.deadlines = replace(database.deadlines, idle=idle)
    parent, child = [(await accept_run(database, caller, project)).run for _ in range(2)]
    passed = "UPDATE runs SET status = 'WAITING', deadline_at = now() - interval '1 s' WHERE id = $1"
    await database.pool.execute(passed, parent.id)
    await database.pool.execute("UPDATE runs SET status = $2 WHERE id = $1", child.id, child_status)
    await database.pool.execute(
        """INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, child_run_id)
        VALUES ('wait_1', $1, 'a', 1, 0, 1, 'RUN', $2)""",
        parent.id,
        child.id,
    )
    await end_overdue(database)
    after = await row(database, parent.id)
    assert after["status"] == follows
    if follows is S.WAITING and idle is None:
        assert after["deadline_at"] is None
    elif follows is S.WAITING:
        assert after["deadline_at"] > datetime.now(UTC) + timedelta(days=29)
