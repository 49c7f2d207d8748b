"""Retries: finished nodes are not executed again, and a run that cannot be retried is refused."""

import asyncio

from redis.asyncio import Redis

from engine.runtime.run_info import StopReason
from engine.states import RunStatus
from persistence.caller import Caller
from resolvers.context import Context
from resolvers.runs import control
from tests.executor_worker import ExecutorWorker, GatedNode, accept_spec, edges, node, node_types, run_summary
from tests.resolvers.runs.derive.derived_runs import FLAKY, derived, execute, refused
from tests.worker.spec_samples import SPECS


async def test_a_retry_continues_from_the_failed_nodes(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    spec = {
        "nodes": [
            node("a"),
            node("b", "tick"),
            {**node("f", "tick"), "type": "flaky"},
            node("c", "tick", 30),
            node("j"),
        ],
        "edges": edges("a>b a>f a>c b>j f>j c>j"),
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    assert await execute(worker, run_id) is RunStatus.FAILED
    FLAKY.is_repaired = True
    retry = await derived(context, "retryRun", runId=run_id)
    assert (retry["source"], retry["retryOf"]) == ("RETRY", {"id": run_id})
    assert await execute(worker, retry["id"]) is RunStatus.COMPLETED
    output, visits, numbers, _ = await run_summary(context.database, retry["id"])
    assert (output, set(visits.values())) == ({"j": 1}, {1})
    assert numbers == list(range(1, len(numbers) + 1))
    ran = await context.database.pool.fetch(
        "SELECT node_id FROM events WHERE run_id = $1 AND body->>'status' = 'RUNNING' AND node_id IS NOT NULL",
        retry["id"],
    )
    assert {row["node_id"] for row in ran} == {"f", "c"}
    assert FLAKY.keys == [f"{run_id}/0/f/1", f"{retry['id']}/0/f/1"]


async def test_a_retry_of_a_cancelled_run_executes_the_stopped_nodes_again(
    context: Context, redis: Redis, caller: Caller, project: str
) -> None:
    gated = GatedNode()
    spec = {
        "nodes": [node("a", "tick"), {"id": "gated", "type": "gated", "config": {}}, node("z")],
        "edges": edges("a>gated gated>z"),
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    async with ExecutorWorker(context.database, redis, node_types(gated)) as worker:
        executor = await worker.claim(run_id)
        task = asyncio.create_task(executor.run())
        await gated.running.wait()
        await control.cancel_run(context, run_id, None, None)
        executor.request(StopReason.CANCEL)
        assert await task is RunStatus.CANCELLED
        retry = (await derived(context, "retryRun", runId=run_id))["id"]
        gated.release.set()
        assert await execute(worker, retry) is RunStatus.COMPLETED
    assert (await run_summary(context.database, retry))[1] == {("a", 1): 1, ("gated", 1): 1, ("z", 1): 1}


async def test_a_retry_from_the_start_or_of_a_run_without_nodes_is_an_empty_run(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    assert await execute(worker, run_id) is RunStatus.COMPLETED
    retry = await derived(
        context, "retryRun", runId=run_id, **{"from": "START"}, options={"priority": 7, "breakpoints": ["b"]}
    )
    assert retry["options"] == {"priority": 7, "breakpoints": ["b"]}
    assert await context.database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", retry["id"]) == 1
    await control.cancel_run(context, retry["id"], None, None)
    again = await derived(context, "retryRun", runId=retry["id"])
    assert again["options"] == {"priority": 7, "breakpoints": ["b"]}
    assert await execute(worker, again["id"]) is RunStatus.PAUSED


async def test_a_run_that_cannot_be_retried_is_refused_as_invalid_state(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    assert await refused(context, "retryRun", runId=run_id) == [("", "INVALID_STATE")]
    await execute(worker, run_id)
    assert await refused(context, "retryRun", runId=run_id) == [("", "INVALID_STATE")]
    await context.database.pool.execute("UPDATE runs SET status = 'FAILED', pruned_at = now() WHERE id = $1", run_id)
    await context.database.pool.execute("DELETE FROM checkpoints")
    assert await refused(context, "retryRun", runId=run_id) == [("", "INVALID_STATE")]
