"""Runs that wait for an answer or a moment, without a worker where it is long, and go on from exactly there."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from engine.runtime.run_info import StopReason
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
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


async def test_a_question_holds_up_only_what_follows_it_and_then_the_run_waits_without_a_worker(
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


async def test_two_questions_wait_side_by_side_and_are_answered_in_any_order(
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


async def test_an_answer_that_comes_while_the_run_is_held_is_taken_along(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    gated = GatedNode()
    spec = {"nodes": [ASK | {"config": {"prompt": 1}}, {"id": "gated", "type": "gated"}], "edges": []}
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis, node_types(gated)) as worker:
        taken = await worker.claim(run_id)
        running = asyncio.create_task(execute(taken))
        await gated.running.wait()
        waits = await eventually(lambda: open_waits(database.pool, run_id))
        assert taken.has_open_waits
        await answer(database, waits[0].id, "yes")
        taken.receive_answers(await open_waits(database.pool, run_id))
        completed = "SELECT true FROM node_states WHERE run_id = $1 AND node_id = 'ask' AND status = 'COMPLETED'"
        await eventually(lambda: database.pool.fetchval(completed, run_id))
        gated.release.set()
        assert await running is RunStatus.COMPLETED


async def test_an_answer_at_the_moment_of_parking_wakes_the_run_at_once(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, BESIDE)
    async with ExecutorWorker(database, redis) as worker:
        taken = await worker.claim(run_id)
        await database.pool.execute("UPDATE runs SET wake_at = now() WHERE id = $1", run_id)
        assert await execute(taken) is RunStatus.WAITING
    assert await database.pool.fetchval("SELECT wake_at <= now() FROM runs WHERE id = $1", run_id)


async def test_a_waiting_node_that_fails_to_be_answered_leaves_by_its_port(
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


async def test_a_long_delay_needs_no_worker_and_ends_when_its_time_has_come(
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
async def test_what_a_host_at_the_wrong_hour_waits_for_is_stored_by_the_clock_of_the_database(
    database: Database, redis: Redis, caller: Caller, project: str, hours: int
) -> None:
    """Seen from a right host whose database is at another hour: it comes to the same."""
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
    # Read again, it is by the clock of the host.
    [wait] = await open_waits(database.pool, run_id, worker.journal.clock_skew.offset)
    assert wait.until is not None
    assert abs(wait.until - (due - theirs)) < timedelta(seconds=30)


async def test_a_short_delay_is_waited_for_in_the_process_and_a_crash_does_not_start_it_anew(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, timer(0.4))
    async with ExecutorWorker(database, redis) as worker:
        began = datetime.now(UTC)
        taken = await worker.claim(run_id)
        running = asyncio.create_task(execute(taken))
        waits = await eventually(lambda: open_waits(database.pool, run_id))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
        ended = await database.pool.fetchval("SELECT finished_at FROM runs WHERE id = $1", run_id)
    assert waits[0].until is not None
    assert ended >= waits[0].until
    assert ended - began < timedelta(seconds=5)


async def test_a_cancel_while_waiting_in_the_process_ends_the_wait(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, timer(4))
    async with ExecutorWorker(database, redis) as worker:
        taken = await worker.claim(run_id)
        running = asyncio.create_task(execute(taken))
        await eventually(lambda: open_waits(database.pool, run_id))
        await database.pool.execute("UPDATE runs SET status = 'CANCELLING' WHERE id = $1", run_id)
        taken.request(StopReason.CANCEL)
        assert await running is RunStatus.CANCELLED
    assert (await node_statuses(database, run_id))["later"] == "CANCELLED"
    assert await open_waits(database.pool, run_id) == []
