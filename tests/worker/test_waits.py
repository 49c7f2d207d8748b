"""Runs that wait for an answer or a time, and continue exactly there. A long wait needs no worker."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from engine.runtime.run_info import StopReason
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.runs import commands
from persistence.runs.waits import open_waits
from tests.executor_worker import (
    ExecutorWorker,
    GatedNode,
    accept_spec,
    edges,
    eventually,
    node,
    node_types,
    run_summary,
)
from tests.worker.paused_runs import answer, execute, node_statuses

ASK = {"id": "ask", "type": "ask", "config": {"prompt": {"approve": "{{ a.output }}"}}}
BESIDE: dict[str, Any] = {
    "nodes": [node("a"), ASK, node("b", "tick", 3), node("c", "tick"), node("yes"), node("end")],
    "edges": [*edges("a>ask a>b b>c c>end yes>end"), {"source": "ask", "target": "yes", "port": "answered"}],
}


async def test_a_question_delays_only_its_successors_and_then_the_run_waits_without_a_worker(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, BESIDE)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        row = await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", run_id)
        assert (row["status"], row["worker_id"], row["lease_until"], row["wake_at"]) == ("WAITING", None, None, None)
        assert await node_statuses(database, run_id) == {
            "a": "COMPLETED",
            "ask": "WAITING",
            "b": "COMPLETED",
            "c": "COMPLETED",
        }
        [wait] = await open_waits(database.pool, run_id)
        assert wait.prompt == {"approve": 1}
        await answer(database, wait.id, {"ok": True})
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    output, visits, numbers, _ = await run_summary(database, run_id)
    assert output == {"end": 1}
    assert set(visits.values()) == {1}
    assert numbers == list(range(1, len(numbers) + 1))
    assert await open_waits(database.pool, run_id) == []


async def test_two_open_questions_are_answered_in_any_order(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    spec = {
        "nodes": [{**ASK, "id": "p", "config": {"prompt": 1}}, {**ASK, "id": "q", "config": {"prompt": 2}}, node("j")],
        "edges": edges("p>j q>j"),
    }
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        first, second = await open_waits(database.pool, run_id)
        await answer(database, second.id, "2")
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        assert [wait.id for wait in await open_waits(database.pool, run_id)] == [first.id]
        await answer(database, first.id, "1")
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED


async def test_an_answer_during_the_execution_of_the_run_is_used_at_once(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    gated = GatedNode()
    spec = {"nodes": [ASK | {"config": {"prompt": 1}}, {"id": "gated", "type": "gated"}], "edges": []}
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis, node_types(gated)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await gated.running.wait()
        waits = await eventually(lambda: open_waits(database.pool, run_id))
        assert executor.has_open_waits
        await answer(database, waits[0].id, "yes")
        executor.receive_answers(await open_waits(database.pool, run_id))
        completed = "SELECT true FROM node_states WHERE run_id = $1 AND node_id = 'ask' AND status = 'COMPLETED'"
        await eventually(lambda: database.pool.fetchval(completed, run_id))
        gated.release.set()
        assert await running is RunStatus.COMPLETED


async def test_an_answer_during_the_change_to_waiting_makes_the_run_due_at_once(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, BESIDE)
    async with ExecutorWorker(database, redis) as worker:
        executor = await worker.claim(run_id)
        await database.pool.execute("UPDATE runs SET wake_at = now() WHERE id = $1", run_id)
        assert await execute(executor) is RunStatus.WAITING
    assert await database.pool.fetchval("SELECT wake_at <= now() FROM runs WHERE id = $1", run_id)


async def test_an_expired_question_continues_at_its_port(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    spec = {
        "nodes": [ASK | {"config": {"prompt": 1}}, node("yes"), node("late")],
        "edges": [
            {"source": "ask", "target": "yes", "port": "answered"},
            {"source": "ask", "target": "late", "port": "expired"},
        ],
    }
    run_id = await accept_spec(database, caller, project, spec)
    outcome = orjson.loads('{"value": null, "port": "expired"}')
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        await database.pool.execute("UPDATE waits SET until = now(), outcome = $2 WHERE run_id = $1", run_id, outcome)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await node_statuses(database, run_id) == {"ask": "COMPLETED", "yes": "SKIPPED", "late": "COMPLETED"}


def timer(seconds: float) -> dict[str, Any]:
    return {
        "nodes": [{"id": "later", "type": "delay", "config": {"seconds": seconds}}, node("z")],
        "edges": edges("later>z"),
    }


async def test_a_long_delay_needs_no_worker_and_ends_in_time(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, timer(3600))
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        wake_at = await database.pool.fetchval("SELECT wake_at FROM runs WHERE id = $1", run_id)
        assert abs(wake_at - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
        await database.pool.execute("UPDATE waits SET until = now() WHERE run_id = $1", run_id)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert (await run_summary(database, run_id))[1] == {("later", 1): 1, ("z", 1): 1}


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_host_with_a_wrong_clock_stores_waits_by_the_clock_of_the_database(
    database: Database, redis: Redis, caller: Caller, project: str, hours: int
) -> None:
    """The test has a right host and a database with a wrong clock, which is equivalent."""
    run_id = await accept_spec(database, caller, project, timer(600))
    theirs = timedelta(hours=hours)
    async with ExecutorWorker(database, redis) as worker:
        worker.journal.clock_skew.measure(datetime.now(UTC) + theirs, reply_s=0.01)
        worker.journal.clock_skew.measure(datetime.now(UTC) - theirs, reply_s=5.0)
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
    due = datetime.now(UTC) + theirs + timedelta(minutes=10)
    wake_at = await database.pool.fetchval("SELECT wake_at FROM runs WHERE id = $1", run_id)
    until = await database.pool.fetchval("SELECT until FROM waits WHERE run_id = $1", run_id)
    assert until == wake_at
    assert abs(wake_at - due) < timedelta(seconds=30)
    # A wait that is read is by the clock of the host.
    [wait] = await open_waits(database.pool, run_id, worker.journal.clock_skew.offset)
    assert wait.until is not None
    assert abs(wait.until - (due - theirs)) < timedelta(seconds=30)


async def test_a_short_delay_is_waited_for_in_the_process_and_not_restarted_by_a_crash(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, timer(0.4))
    async with ExecutorWorker(database, redis) as worker:
        began = datetime.now(UTC)
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        waits = await eventually(lambda: open_waits(database.pool, run_id))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
        ended = await database.pool.fetchval("SELECT finished_at FROM runs WHERE id = $1", run_id)
    assert waits[0].until is not None
    assert ended >= waits[0].until
    assert ended - began < timedelta(seconds=5)


async def test_a_cancel_ends_a_wait_in_the_process(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, timer(4))
    async with ExecutorWorker(database, redis) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await eventually(lambda: open_waits(database.pool, run_id))
        await database.pool.execute("UPDATE runs SET status = 'CANCELLING' WHERE id = $1", run_id)
        executor.request(StopReason.CANCEL)
        assert await running is RunStatus.CANCELLED
    assert (await node_statuses(database, run_id))["later"] == "CANCELLED"
    assert await open_waits(database.pool, run_id) == []


@pytest.mark.parametrize("idle", [timedelta(days=30), None])
@pytest.mark.parametrize("stop", ["waits", "is paused by the server", "is paused by its worker"])
async def test_a_deadline_is_never_earlier_than_the_first_timer_and_may_be_none(
    database: Database, redis: Redis, caller: Caller, project: str, stop: str, idle: timedelta | None
) -> None:
    database.deadlines = replace(database.deadlines, idle=idle)
    run_id = await accept_spec(database, caller, project, timer(45 * 86_400))
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        if stop == "is paused by the server":
            async with database.begin() as connection:
                await commands.pause(connection, caller, run_id, database.deadlines)
        elif stop == "is paused by its worker":
            executor = await worker.claim(run_id)
            await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
            executor.request(StopReason.PAUSE)
            assert await execute(executor) is RunStatus.PAUSED
    [wait] = await open_waits(database.pool, run_id)
    deadline = await database.pool.fetchval("SELECT deadline_at FROM runs WHERE id = $1", run_id)
    assert wait.until is not None
    assert deadline is None if idle is None else deadline >= wait.until + idle


@pytest.mark.parametrize(("type", "config"), [("human", {"prompt": "?"}), ("wait_event", {"name": "paid"})])
async def test_a_deadline_is_never_earlier_than_the_expiry_of_a_wait(
    database: Database, redis: Redis, caller: Caller, project: str, type: str, config: dict[str, Any]
) -> None:
    spec = {"nodes": [{"id": "ask", "type": type, "config": {**config, "expiresS": 45 * 86_400}}], "edges": []}
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
    [wait] = await open_waits(database.pool, run_id)
    deadline = await database.pool.fetchval("SELECT deadline_at FROM runs WHERE id = $1", run_id)
    assert wait.until is not None and database.deadlines.idle is not None
    assert deadline >= wait.until + database.deadlines.idle
