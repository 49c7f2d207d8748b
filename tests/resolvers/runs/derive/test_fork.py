"""Forks reach the same end from any checkpoint and execute no finished node again."""

import asyncio
from typing import Any

import pytest

from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events.history import Checkpoint
from resolvers.context import Context
from resolvers.runs import control
from tests.executor_worker import (
    ExecutorWorker,
    accept_spec,
    all_checkpoints,
    edges,
    node,
    run_summary,
    states_in_events,
)
from tests.resolvers.runs.derive.derived_runs import QUICK_FLAKY, derived, execute, refused
from tests.schema_client import mutate, new_workflow
from tests.worker.spec_samples import SPECS


@pytest.mark.parametrize("name", SPECS)
async def test_a_fork_from_any_checkpoint_reaches_the_same_end_and_executes_no_node_twice(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str, name: str
) -> None:
    database = context.database
    whole = await accept_spec(database, caller, project, SPECS[name])
    await execute(worker, whole)
    expected = await run_summary(database, whole)
    for row in await all_checkpoints(database, whole):
        fork = await derived(context, "forkRun", checkpointId=row.id)
        assert (fork["status"], fork["source"], fork["forkedFrom"]) == ("QUEUED", "FORK", {"id": row.id})
        await assert_is_copy(database, fork["id"], whole, row)
        assert await execute(worker, fork["id"]) is RunStatus.COMPLETED
        output, visits, numbers, _ = await run_summary(database, fork["id"])
        assert output == expected[0]
        assert visits.keys() <= expected[1].keys() and set(visits.values()) == {1}
        assert numbers == list(range(1, len(numbers) + 1))


async def assert_is_copy(database: Database, run_id: str, whole: str, row: Checkpoint) -> None:
    """Assert that events are complete, node states match them, and the head has all outputs."""
    last = await database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)
    rows = await database.pool.fetch("SELECT * FROM events WHERE run_id = $1 ORDER BY seq", run_id)
    assert [row["seq"] for row in rows] == list(range(1, last + 1))
    assert (rows[0]["type"], rows[-1]["type"]) == ("RUN_STATUS", "CHECKPOINT")
    assert f"Fork of {whole} at step {row.step}" == rows[0]["body"]["message"]
    last_states = {state.node_id: (state.status, state.visits) for state in await states_in_events(database, run_id)}
    states = await database.pool.fetch("SELECT * FROM node_states WHERE run_id = $1", run_id)
    assert {row["node_id"]: (row["status"], row["visits"]) for row in states} == last_states
    assert not {"RUNNING", "WAITING"} & {status for status, _ in last_states.values()}
    latest = """SELECT DISTINCT ON (node_id) node_id, visit, output::text FROM node_outputs
        WHERE run_id = $1 AND seq <= $2 ORDER BY node_id, seq DESC"""
    ours = await database.pool.fetch(latest, run_id, last)
    assert ours == await database.pool.fetch(latest, whole, row.seq)
    [head] = await all_checkpoints(database, run_id)
    assert (head.seq, head.step, head.parent_id) == (last, row.step, None)
    assert set(head.next_nodes) == set(row.next_nodes)


async def test_a_fork_from_the_checkpoint_before_a_failed_node_executes_that_node_again(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    spec = {
        "nodes": [node("a"), {**node("f", "tick"), "type": "quick_flaky"}, node("z")],
        "edges": edges("a>f f>z"),
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    assert await execute(worker, run_id) is RunStatus.FAILED
    checkpoint_id = (await all_checkpoints(context.database, run_id))[-1].id
    unrepaired = await derived(context, "forkRun", checkpointId=checkpoint_id)
    assert await execute(worker, unrepaired["id"]) is RunStatus.FAILED
    patched = await derived(context, "forkRun", checkpointId=checkpoint_id, patch={"f": 1})
    assert await execute(worker, patched["id"]) is RunStatus.COMPLETED
    QUICK_FLAKY.is_repaired = True
    repaired = await derived(context, "forkRun", checkpointId=checkpoint_id)
    assert await execute(worker, repaired["id"]) is RunStatus.COMPLETED


async def test_a_stepwise_fork_pauses_after_each_step(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, SPECS["quick chain"])
    assert await execute(worker, run_id) is RunStatus.COMPLETED
    row = next(row for row in await all_checkpoints(context.database, run_id) if row.next_nodes == ["b"])
    fork = (await derived(context, "forkRun", checkpointId=row.id, options={"stepwise": True}))["id"]
    assert await execute(worker, fork) is RunStatus.PAUSED
    head = (await all_checkpoints(context.database, fork))[-1]
    assert (head.step, head.next_nodes) == (row.step + 1, ["c"])


async def test_a_fork_opens_its_own_waits(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    spec = {
        "nodes": [node("a"), {"id": "q", "type": "ask", "config": {"prompt": "?"}}, node("yes"), node("b")],
        "edges": [*edges("a>q a>b"), {"source": "q", "target": "yes", "port": "answered"}],
    }
    run_id = await accept_spec(context.database, caller, project, spec)
    assert await execute(worker, run_id) is RunStatus.WAITING
    row = (await all_checkpoints(context.database, run_id))[-1]
    fork = (await derived(context, "forkRun", checkpointId=row.id))["id"]
    assert await execute(worker, fork) is RunStatus.WAITING
    open_waits = await context.database.pool.fetch("SELECT run_id FROM waits WHERE settled_seq IS NULL ORDER BY id")
    assert [row["run_id"] for row in open_waits] == [run_id, fork]
    answered = (await derived(context, "forkRun", checkpointId=row.id, patch={"q": {"ok": True}}))["id"]
    assert await execute(worker, answered) is RunStatus.COMPLETED
    assert (await run_summary(context.database, answered))[0] == {"yes": 1, "b": 1}


async def test_a_fork_from_a_checkpoint_that_a_rewind_replaced_starts_with_its_original_state(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    spec = {"nodes": [node(name, "tick") for name in "abcd"], "edges": edges("a>b b>c c>d")}
    run_id = await accept_spec(context.database, caller, project, spec)
    async with asyncio.timeout(20):
        executor = await worker.claim(run_id, breakpoints=frozenset({"d"}))
        assert await executor.run() is RunStatus.PAUSED
    rows = await all_checkpoints(context.database, run_id)
    replaced = next(row for row in rows if row.next_nodes == ["c"])
    earlier = next(row for row in rows if row.next_nodes == ["b"])
    await control.resume_run(context, run_id, earlier.id, None)
    assert await execute(worker, run_id) is RunStatus.COMPLETED
    fork = (await derived(context, "forkRun", checkpointId=replaced.id))["id"]
    assert await execute(worker, fork) is RunStatus.COMPLETED
    _, visits, _, _ = await run_summary(context.database, fork)
    assert visits == {(name, 1): 1 for name in "abcd"}
    ran = await context.database.pool.fetch(
        "SELECT node_id FROM events WHERE run_id = $1 AND body->>'status' = 'RUNNING' AND node_id IS NOT NULL", fork
    )
    assert [row["node_id"] for row in ran] == ["c", "d"]


async def test_a_fork_to_another_version_is_refused_with_all_reasons_if_it_does_not_fit(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    def spec(names: str, text: str, kind: str = "tick", **more: Any) -> dict[str, Any]:
        nodes = [{"id": name, "type": kind, "config": {"output": 1}} for name in names.split()]
        return {"nodes": nodes, "edges": edges(text), **more}

    async def version(workflow_id: str, spec_: Any) -> str:
        saved = await mutate(
            context,
            "saveDraft",
            "draft { revision }",
            workflowId=workflow_id,
            spec=spec_,
            expectedRevision=revisions[workflow_id],
        )
        revisions[workflow_id] = saved["draft"]["revision"]
        frozen = await mutate(context, "createVersion", "version { id }", workflowId=workflow_id)
        assert frozen["errors"] == []
        return str(frozen["version"]["id"])

    revisions: dict[str, int] = {}
    workflow = await new_workflow(context, spec("a b", "a>b"))
    other = await new_workflow(context, spec("q", ""), "Another")
    revisions |= {workflow: 1, other: 1}
    run = (await mutate(context, "runWorkflow", "run { id }", workflowId=workflow, options={"breakpoints": ["b"]}))[
        "run"
    ]
    assert await execute(worker, run["id"]) is RunStatus.PAUSED
    checkpoint_id = (await all_checkpoints(context.database, run["id"]))[-1].id
    longer = await version(workflow, spec("a b c", "a>b b>c"))
    fork = await derived(context, "forkRun", checkpointId=checkpoint_id, versionId=longer)
    assert await execute(worker, fork["id"]) is RunStatus.COMPLETED
    assert (await run_summary(context.database, fork["id"]))[0] == {"c": 1}

    picky = {"type": "object", "required": ["who"]}
    unfit = await version(workflow, spec("a c", "a>c", "transform", inputs=picky))
    assert sorted(await refused(context, "forkRun", checkpointId=checkpoint_id, versionId=unfit)) == [
        ("input.versionId", "MISSING_NODE"),
        ("input.versionId", "OTHER_TYPE"),
        ("inputs", "REQUIRED"),
    ]
    strange = await version(other, spec("q r", "q>r"))
    assert await refused(context, "forkRun", checkpointId=checkpoint_id, versionId=strange) == [
        ("input.versionId", "OTHER_WORKFLOW")
    ]
