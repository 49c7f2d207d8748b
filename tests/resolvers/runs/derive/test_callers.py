"""Who makes a run of another: once for each key, with the right to, and followed from its first number on."""

import asyncio

from persistence.caller import Caller, Role
from resolvers.context import Context
from tests.executor_worker import ExecutorWorker, accept_spec
from tests.journal_worker import until
from tests.resolvers.runs.derive.derived_runs import checkpoints, derived, execute, refused
from tests.worker.spec_samples import SPECS


async def test_one_key_from_many_callers_makes_one_run(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["launched chain"])
    await execute(worker, run_id)
    place = (await checkpoints(context.database, run_id))[2]["id"]
    forks = await asyncio.gather(
        *(derived(context, "forkRun", checkpointId=place, idempotencyKey="fork") for _ in range(10))
    )
    retries = await asyncio.gather(
        *(derived(context, "retryRun", runId=run_id, **{"from": "START"}, idempotencyKey="retry") for _ in range(10))
    )
    assert (len({run["id"] for run in forks}), len({run["id"] for run in retries})) == (1, 1)
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 3
    assert await refused(context, "forkRun", checkpointId=place, patch={"a": 1}, idempotencyKey="fork") == [
        ("", "CONFLICT")
    ]


async def test_a_viewer_may_not_derive_and_a_stranger_finds_nothing(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    await execute(worker, run_id)
    place = (await checkpoints(context.database, run_id))[0]["id"]
    for roles, code in (({project: Role.VIEWER}, "FORBIDDEN"), ({}, "NOT_FOUND")):
        context.caller = Caller("other", roles)
        assert await refused(context, "forkRun", checkpointId=place) == [("", code)]
        assert await refused(context, "retryRun", runId=run_id) == [("", code)]


async def test_a_follower_of_a_derived_run_sees_every_number(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["launched chain"])
    await execute(worker, run_id)
    place = (await checkpoints(context.database, run_id))[-2]["id"]
    fork = (await derived(context, "forkRun", checkpointId=place))["id"]
    seen: list[int] = []

    async def follow() -> None:
        async for event in context.feed.follow(fork, 0):
            seen.append(event.seq)

    following = asyncio.create_task(follow())
    await until(lambda: seen)
    await execute(worker, fork)
    await asyncio.wait_for(following, 10)
    assert seen == list(range(1, len(seen) + 1))
