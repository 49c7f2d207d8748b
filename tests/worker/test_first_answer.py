"""The first of two answers ends a run, whatever happens in between; the other question is withdrawn."""

import asyncio
import json
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.runtime.run_info import StopReason
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.problems import Conflict
from persistence.runs import waits
from persistence.runs.waits import open_waits
from tests.executor_worker import (
    ExecutorWorker,
    GatedNode,
    accept_spec,
    edges,
    node,
    node_types,
    run_summary,
)
from tests.paths import ROOT
from tests.worker.paused_runs import answer, execute, node_statuses, resume


def ask(node_id: str) -> dict[str, Any]:
    return {"id": node_id, "type": "ask", "config": {"prompt": node_id}}


TWO: dict[str, Any] = {
    "nodes": [
        ask("a"),
        ask("b"),
        {"id": "j", "type": "transform", "join": "any", "config": {"output": "{{ a.output or b.output }}"}},
        node("e"),
    ],
    "edges": edges("a>j b>j j>e"),
}
ENDED = {"a": "COMPLETED", "b": "CANCELLED", "j": "COMPLETED", "e": "COMPLETED"}


CASE = json.loads((ROOT / "tests" / "engine" / "cases" / "first_of_two_approvals_never_ends.json").read_text())


async def test_the_case_of_two_approvals_ends_with_the_first_answer(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, CASE["spec"])
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        for node_id, value in CASE["answers"].items():
            await answer(database, await wait_of(database, run_id, node_id), value)
        status = await execute(await worker.claim(run_id))
    output = (await run_summary(database, run_id))[0]
    assert {"status": status, "output": output} == CASE["expected"]


async def wait_of(database: Database, run_id: str, node_id: str) -> str:
    return next(wait.id for wait in await open_waits(database.pool, run_id) if wait.node_id == node_id)


async def test_the_first_answer_ends_the_run_and_withdraws_the_other_question(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, TWO)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        await answer(database, await wait_of(database, run_id, "a"), "yes")
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await node_statuses(database, run_id) == ENDED
    assert await open_waits(database.pool, run_id) == []


@pytest.mark.parametrize("before", [True, False], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("at", range(1, 5))
async def test_a_worker_that_dies_at_any_commit_changes_nothing(
    database: Database, redis: Redis, caller: Caller, project: str, at: int, before: bool
) -> None:
    run_id = await accept_spec(database, caller, project, TWO)
    async with ExecutorWorker(database, redis) as worker:
        await asyncio.gather(execute(await worker.claim(run_id, at, before)), return_exceptions=True)
        if await status_of(database, run_id) == "RUNNING":
            assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        await answer(database, await wait_of(database, run_id, "a"), "yes")
        await asyncio.gather(execute(await worker.claim(run_id, at, before)), return_exceptions=True)
        if await status_of(database, run_id) == "RUNNING":
            assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await node_statuses(database, run_id) == ENDED
    _, visits, numbers, status = await run_summary(database, run_id)
    assert (status, set(visits.values())) == ("COMPLETED", {1})
    assert numbers == list(range(1, len(numbers) + 1))
    assert await open_waits(database.pool, run_id) == []


async def status_of(database: Database, run_id: str) -> str:
    status: str = await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", run_id)
    return status


async def test_two_answers_before_the_worker_comes_are_both_taken(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, TWO)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        for wait in await open_waits(database.pool, run_id):
            await answer(database, wait.id, wait.node_id)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await node_statuses(database, run_id) == {**ENDED, "b": "COMPLETED"}


async def test_an_answer_to_a_paused_run_withdraws_the_other_question_after_the_resume(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, TWO)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        await database.pool.execute("UPDATE runs SET status = 'PAUSED' WHERE id = $1", run_id)
        await answer(database, await wait_of(database, run_id, "a"), "yes")
        assert len(await open_waits(database.pool, run_id)) == 2
        await resume(database, run_id)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await node_statuses(database, run_id) == ENDED


async def test_a_cancelled_run_cancels_both_questions(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    gated = GatedNode()
    spec = {**TWO, "nodes": [*TWO["nodes"], {"id": "g", "type": "gated"}]}
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis, node_types(gated)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await gated.running.wait()
        await database.pool.execute("UPDATE runs SET status = 'CANCELLING' WHERE id = $1", run_id)
        executor.request(StopReason.CANCEL)
        assert await running is RunStatus.CANCELLED
    statuses = await node_statuses(database, run_id)
    assert statuses == dict.fromkeys("abjeg", "CANCELLED")
    assert await open_waits(database.pool, run_id) == []


async def test_a_late_answer_is_refused_with_the_reason(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    """The run goes on with another question after the first answer."""
    spec = {
        "nodes": [*TWO["nodes"], ask("c")],
        "edges": [*TWO["edges"], *edges("e>c")],
    }
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        late = await wait_of(database, run_id, "b")
        await answer(database, await wait_of(database, run_id, "a"), "yes")
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
    assert [wait.node_id for wait in await open_waits(database.pool, run_id)] == ["c"]
    with pytest.raises(Conflict, match="was withdrawn: the run has gone on without its answer"):
        async with database.begin() as connection:
            await waits.answer(connection, caller, run_id, late, "no")


async def test_a_run_that_an_older_release_has_left_waiting_ends_at_its_next_claim(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    """Such a run waits although its end is COMPLETED. It is made from the head before the last commit."""
    run_id = await accept_spec(database, caller, project, TWO)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        await answer(database, await wait_of(database, run_id, "a"), "yes")
        executor = await worker.claim(run_id)
        executor.compiled.liveness.find_superfluous = lambda *_: []  # type: ignore[method-assign]
        assert await execute(executor) is RunStatus.WAITING
        assert await node_statuses(database, run_id) == {**ENDED, "b": "WAITING"}
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert await node_statuses(database, run_id) == ENDED


async def test_a_running_branch_is_cancelled_when_its_code_has_stopped_also_after_a_crash(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    spec = {
        "nodes": [
            ask("a"),
            {"id": "g", "type": "gated"},
            {**node("j"), "join": {"mode": "any", "cancelOthers": True}},
            node("e"),
        ],
        "edges": edges("a>j g>j j>e"),
    }
    for at in range(1, 6):
        for before in (True, False):
            gated = GatedNode()
            run_id = await accept_spec(database, caller, project, spec)
            async with ExecutorWorker(database, redis, node_types(gated)) as worker:
                executor = await worker.claim(run_id)
                running = asyncio.create_task(execute(executor))
                await gated.running.wait()
                executor.request(StopReason.DRAIN)
                executor.interrupt()
                assert await running is RunStatus.QUEUED
                await answer(database, await wait_of(database, run_id, "a"), "yes")
                await asyncio.gather(execute(await worker.claim(run_id, at, before)), return_exceptions=True)
                if await status_of(database, run_id) == "RUNNING":
                    assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
            assert await node_statuses(database, run_id) == {
                "a": "COMPLETED",
                "g": "CANCELLED",
                "j": "COMPLETED",
                "e": "COMPLETED",
            }
