"""Callers of retry and fork: one run for each key, the required role, and complete events."""

import asyncio

from engine.types import JSON
from persistence.caller import Caller, Role
from resolvers.context import Context
from tests.executor_worker import ExecutorWorker, accept_spec, all_checkpoints
from tests.journal_worker import wait_until
from tests.resolvers.runs.derive.derived_runs import derived, execute, refused
from tests.worker.spec_samples import SPECS


async def test_many_calls_with_one_key_derive_one_run(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["launched chain"])
    await execute(worker, run_id)
    checkpoint_id = (await all_checkpoints(context.database, run_id))[2].id
    forks = await asyncio.gather(
        *(derived(context, "forkRun", checkpointId=checkpoint_id, idempotencyKey="fork") for _ in range(10))
    )
    retries = await asyncio.gather(
        *(derived(context, "retryRun", runId=run_id, **{"from": "START"}, idempotencyKey="retry") for _ in range(10))
    )
    assert (len({run["id"] for run in forks}), len({run["id"] for run in retries})) == (1, 1)
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 3
    assert await refused(context, "forkRun", checkpointId=checkpoint_id, patch={"a": 1}, idempotencyKey="fork") == [
        ("", "CONFLICT")
    ]


async def test_a_viewer_may_not_derive_and_another_user_finds_nothing(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    await execute(worker, run_id)
    checkpoint_id = (await all_checkpoints(context.database, run_id))[0].id
    for roles, code in (({project: Role.VIEWER}, "FORBIDDEN"), ({}, "NOT_FOUND")):
        context.caller = Caller("other", roles)
        assert await refused(context, "forkRun", checkpointId=checkpoint_id) == [("", code)]
        assert await refused(context, "retryRun", runId=run_id) == [("", code)]


async def test_a_subscriber_of_a_derived_run_receives_every_event(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["launched chain"])
    await execute(worker, run_id)
    checkpoint_id = (await all_checkpoints(context.database, run_id))[-2].id
    fork = (await derived(context, "forkRun", checkpointId=checkpoint_id))["id"]
    received: list[int] = []

    async def follow() -> None:
        async for event in context.feed.follow(fork, 0):
            received.append(event.seq)

    following = asyncio.create_task(follow())
    await wait_until(lambda: received)
    await execute(worker, fork)
    await asyncio.wait_for(following, 10)
    assert received == list(range(1, len(received) + 1))


async def test_a_runner_cannot_change_the_outputs_before_a_node_with_secrets(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    """A patched output may become the address to which a later node sends a secret."""

    def send(**more: str) -> JSON:
        http = {"url": "{{ find.output }}", "headers": {"x": "{{ secrets.key }}"}, **more}
        nodes = [
            {"id": "find", "type": "transform", "config": {"output": "http://192.0.2.1"}},
            {"id": "ask", "type": "human", "config": {"prompt": "?"}},
            {"id": "send", "type": "http", "config": http},
        ]
        edges = [{"source": "find", "target": "ask"}, {"source": "ask", "target": "send", "port": "answered"}]
        return {"nodes": nodes, "edges": edges}

    run_id, other_id = [await accept_spec(context.database, caller, project, send(method=m)) for m in ("GET", "POST")]
    await execute(worker, run_id)
    other = await context.database.pool.fetchval("SELECT version_id FROM runs WHERE id = $1", other_id)
    checkpoint_id = (await all_checkpoints(context.database, run_id))[-1].id
    changes: list[dict[str, JSON]] = [{"patch": {"find": "http://198.51.100.1"}}, {"versionId": other}]
    for change in changes:
        context.caller = Caller("runner", {project: Role.RUNNER})
        assert await refused(context, "forkRun", checkpointId=checkpoint_id, **change) == [("", "FORBIDDEN")]
        context.caller = Caller("editor", {project: Role.EDITOR})
        assert (await derived(context, "forkRun", checkpointId=checkpoint_id, **change))["id"]
    context.caller = Caller("runner", {project: Role.RUNNER})
    assert (await derived(context, "forkRun", checkpointId=checkpoint_id))["id"]
