"""Run control through the schema: pause, step, options, breakpoints, questions, derived runs."""

import asyncio
from typing import Any

import pytest

from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.db.ids import new_id
from persistence.runs.run import Run
from resolvers.context import Context
from schema.schema import schema
from tests.journal_worker import SPEC, HeldRun, JournalWorker, accept_run, wait_until
from tests.schema_client import call, mutate
from tests.statement_counter import count_statements

PAUSED = "run { id status } checkpoint { id step nextNodes }"


async def with_checkpoint(held: HeldRun) -> str:
    """Finish node a, save a checkpoint before b, and return its id."""
    checkpoint_id = new_id("ckp")
    await held.node("a", NodeStatus.COMPLETED, visits=1, output=41, has_output=True)
    await held.checkpoint(checkpoint_id, step=1, next_nodes=["b"])
    return checkpoint_id


async def test_a_pause_returns_the_checkpoint_as_soon_as_the_run_is_paused(
    context: Context, worker: JournalWorker, run: Run
) -> None:
    held = await worker.claim(run)
    checkpoint_id = await with_checkpoint(held)
    pausing = asyncio.create_task(mutate(context, "pauseRun", PAUSED, runId=run.id, timeoutMs=20_000))
    await wait_until(lambda: context.feed.rest_waiter.waiting)
    await held.finish(RunStatus.PAUSED, RunStatus.PAUSING)
    assert await asyncio.wait_for(pausing, 10) == {
        "run": {"id": run.id, "status": "PAUSED"},
        "checkpoint": {"id": checkpoint_id, "step": 1, "nextNodes": ["b"]},
        "errors": [],
    }


async def test_a_pause_that_takes_longer_than_its_timeout_returns_pausing(
    context: Context, worker: JournalWorker, run: Run
) -> None:
    await worker.claim(run)
    payload = await mutate(context, "pauseRun", PAUSED, runId=run.id, timeoutMs=10)
    assert (payload["run"]["status"], payload["checkpoint"], payload["errors"]) == ("PAUSING", None, [])


async def test_a_step_returns_the_next_checkpoint(context: Context, worker: JournalWorker, run: Run) -> None:
    held = await worker.claim(run)
    await with_checkpoint(held)
    await held.finish(RunStatus.PAUSED)
    stepping = asyncio.create_task(mutate(context, "stepRun", PAUSED, runId=run.id, timeoutMs=20_000))
    await wait_until(lambda: context.feed.rest_waiter.waiting)
    assert await context.database.pool.fetchval("SELECT is_step FROM runs WHERE id = $1", run.id)
    held = await worker.claim(run)
    await held.checkpoint(new_id("ckp"), step=2, next_nodes=[])
    await held.finish(RunStatus.PAUSED)
    payload = await asyncio.wait_for(stepping, 10)
    assert (payload["run"]["status"], payload["checkpoint"]["step"]) == ("PAUSED", 2)


async def test_a_step_of_the_last_node_returns_the_completed_run(
    context: Context, worker: JournalWorker, run: Run
) -> None:
    await (await worker.claim(run)).finish(RunStatus.PAUSED)
    stepping = asyncio.create_task(mutate(context, "stepRun", PAUSED, runId=run.id, timeoutMs=20_000))
    await wait_until(lambda: context.feed.rest_waiter.waiting)
    await (await worker.claim(run)).finish()
    payload = await asyncio.wait_for(stepping, 10)
    assert (payload["run"]["status"], payload["checkpoint"]) == ("COMPLETED", None)


@pytest.mark.parametrize("name", ["pauseRun", "stepRun"])
async def test_a_timeout_out_of_range_is_refused(context: Context, run: Run, name: str) -> None:
    payload = await mutate(context, name, PAUSED, runId=run.id, timeoutMs=-1)
    assert payload["errors"][0]["errors"][0]["field"] == "input.timeoutMs"


ADHOC = "run { id options { timeoutS breakpoints stepwise priority } lineage }"


async def test_options_are_stored(context: Context) -> None:
    options = {"timeoutS": 30.5, "breakpoints": ["b", "a", "b"], "stepwise": True, "priority": -100}
    payload = await mutate(context, "runAdhoc", ADHOC, spec=SPEC, options=options)
    assert payload["run"]["options"] == {**options, "breakpoints": ["a", "b"]}
    row = await context.database.pool.fetchrow("SELECT is_step, priority FROM runs")
    assert (row["is_step"], row["priority"]) == (True, -100)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"timeoutS": 0}, "timeoutS"),
        ({"timeoutS": 1e300}, "timeoutS"),
        ({"priority": 101}, "priority"),
        ({"priority": -101}, "priority"),
        ({"breakpoints": ["a", "nowhere"]}, "breakpoints"),
    ],
)
async def test_options_out_of_range_are_refused(context: Context, options: dict[str, Any], field: str) -> None:
    payload = await mutate(context, "runAdhoc", ADHOC, spec=SPEC, options=options)
    assert payload["errors"][0]["errors"][0]["field"] == f"input.options.{field}"
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 0


async def test_breakpoints_are_set_on_existing_nodes_only(context: Context, run: Run) -> None:
    answer = "run { options { breakpoints } }"
    unknown = await mutate(context, "setBreakpoints", answer, runId=run.id, nodeIds=["b", "nowhere"])
    assert unknown["errors"][0]["errors"][0] == {
        "field": "input.nodeIds",
        "code": "UNKNOWN_NODE",
        "message": "the spec has no node 'nowhere'",
        "severity": "ERROR",
        "nodeId": None,
    }
    assert (await mutate(context, "setBreakpoints", answer, runId=run.id, nodeIds=["b"]))["run"] == {
        "options": {"breakpoints": ["b"]}
    }
    assert (await mutate(context, "setBreakpoints", answer, runId=run.id, nodeIds=[]))["run"] == {
        "options": {"breakpoints": []}
    }


WAITS = """query($id: ID!) { run(id: $id) { availableActions
  waitingFor { __typename nodeId since ... on TimerWait { until } }
  waits { __typename nodeId ... on TimerWait { until }
    ... on InputWait { waitId prompt schema expiresAt } } } }"""


async def wait(database: Database, run_id: str, kind: str, node_id: str, seq: int, until: str, prompt: Any) -> str:
    wait_id = new_id("wait")
    await database.pool.execute(
        f"""INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, until, prompt, schema)
        VALUES ($1, $2, $3, 1, 0, $4, $5, {until}, $6, $7)""",
        wait_id,
        run_id,
        node_id,
        seq,
        kind,
        prompt,
        {"type": "string"} if kind == "INPUT" else None,
    )
    return wait_id


async def test_the_waits_of_parallel_branches_are_listed(context: Context, run: Run) -> None:
    database = context.database
    question = await wait(database, run.id, "INPUT", "b", 2, "NULL", {"amount": 840})
    await wait(database, run.id, "TIMER", "a", 1, "now() + interval '1 hour'", None)
    await database.pool.execute("UPDATE runs SET status = 'WAITING' WHERE id = $1", run.id)
    data = (await call(context, WAITS, id=run.id))["run"]
    timer, input_wait = data["waits"]
    assert (timer["__typename"], timer["nodeId"], timer["until"] is not None) == ("TimerWait", "a", True)
    assert input_wait == {
        "__typename": "InputWait",
        "nodeId": "b",
        "waitId": question,
        "prompt": {"amount": 840},
        "schema": {"type": "string"},
        "expiresAt": None,
    }
    assert (data["waitingFor"]["__typename"], data["waitingFor"]["nodeId"]) == ("TimerWait", "a")
    assert "ANSWER" in data["availableActions"]
    answered = await mutate(
        context, "resumeRun", "run { status waits { nodeId } }", runId=run.id, waitId=question, answer="x"
    )
    assert answered["run"] == {"status": "QUEUED", "waits": [{"nodeId": "a"}]}
    await database.pool.execute("UPDATE runs SET status = 'CANCELLED' WHERE id = $1", run.id)
    data = (await call(context, WAITS, id=run.id))["run"]
    assert (data["waits"], data["waitingFor"]) == ([], None)


@pytest.mark.parametrize(
    ("input", "code"),
    [
        ({"answer": 1}, "REQUIRED"),
        ({"waitId": "wait_x", "checkpointId": "ckp_x", "answer": 1}, "EXCLUSIVE"),
    ],
)
async def test_an_answer_needs_its_question_and_excludes_a_checkpoint(
    context: Context, run: Run, input: dict[str, Any], code: str
) -> None:
    payload = await mutate(context, "resumeRun", "run { id }", runId=run.id, **input)
    assert payload["errors"][0]["errors"][0]["code"] == code


RELATED = """query($id: ID!, $source: [RunSource!]) { run(id: $id) {
  derivedRuns(source: $source) { nodes { id } }
  two: derivedRuns(first: 2) { nodes { id } pageInfo { hasNextPage } }
  checkpoints { nodes { id supersededSeq lineage forks { nodes { id } } } } } }"""
ORIGIN = "query($id: ID!) { run(id: $id) { parent { id } retryOf { id } forkedFrom { id run { id } } } }"


async def derived(database: Database, caller: Caller, project: str, column: str, of: str, source: str) -> str:
    run_id = (await accept_run(database, caller, project)).run.id
    await database.pool.execute(f"UPDATE runs SET {column} = $2, source = $3 WHERE id = $1", run_id, of, source)
    return run_id


async def test_derived_runs_and_their_origin_link_to_each_other(
    context: Context, worker: JournalWorker, caller: Caller, project: str, run: Run
) -> None:
    checkpoint_id = await with_checkpoint(await worker.claim(run))
    derived_ids = [
        await derived(context.database, caller, project, "retry_of_id", run.id, "RETRY"),
        await derived(context.database, caller, project, "forked_from_id", checkpoint_id, "FORK"),
        await derived(context.database, caller, project, "parent_id", run.id, "SUBWORKFLOW"),
    ]
    retry, fork, child = derived_ids
    data = (await call(context, RELATED, id=run.id))["run"]
    assert [node["id"] for node in data["derivedRuns"]["nodes"]] == derived_ids[::-1]
    assert ([node["id"] for node in data["two"]["nodes"]], data["two"]["pageInfo"]) == (
        [child, fork],
        {"hasNextPage": True},
    )
    assert data["checkpoints"]["nodes"] == [
        {"id": checkpoint_id, "supersededSeq": None, "lineage": 0, "forks": {"nodes": [{"id": fork}]}}
    ]
    filtered = (await call(context, RELATED, id=run.id, source=["RETRY", "FORK"]))["run"]["derivedRuns"]["nodes"]
    assert [node["id"] for node in filtered] == [fork, retry]
    origins = [(await call(context, ORIGIN, id=run_id))["run"] for run_id in (retry, fork, child)]
    assert origins == [
        {"parent": None, "retryOf": {"id": run.id}, "forkedFrom": None},
        {"parent": None, "retryOf": None, "forkedFrom": {"id": checkpoint_id, "run": {"id": run.id}}},
        {"parent": {"id": run.id}, "retryOf": None, "forkedFrom": None},
    ]


async def test_an_invalid_cursor_fails_only_its_own_field(context: Context, run: Run) -> None:
    query = """query($id: ID!) { good: run(id: $id) { derivedRuns { nodes { id } } }
      bad: run(id: $id) { derivedRuns(after: "nonsense") { nodes { id } } } }"""
    result = await schema.execute(query, variable_values={"id": run.id}, context_value=context)
    assert result.errors is not None
    assert [error.path for error in result.errors] == [["bad", "derivedRuns"]]
    assert result.data == {"good": {"derivedRuns": {"nodes": []}}, "bad": None}


LIST = """{ runs(first: 50) { nodes { id availableActions options { priority } waitingFor { nodeId } waits { nodeId }
  parent { id } retryOf { id } forkedFrom { id run { id } } version { number }
  nodeStates { nodeId output } currentNodes { nodeId } estimatedCompletionAt
  events(last: 5) { nodes { seq } } logs(first: 5) { nodes { message } }
  derivedRuns(first: 5) { nodes { id } }
  checkpoints(first: 2) { nodes { id parent { id } completedNodes state forks(first: 2) { nodes { id } }
    evaluate(expression: "{{ a.output }}") { value } } } } } }"""


async def test_a_list_of_runs_needs_one_statement_a_field_and_none_a_row(
    context: Context, worker: JournalWorker, caller: Caller, project: str
) -> None:
    database, costs = context.database, []
    for _ in range(2):
        for _ in range(6):
            run = (await accept_run(database, caller, project)).run
            held = await worker.claim(run)
            checkpoint_id = await with_checkpoint(held)
            await wait(database, run.id, "INPUT", "b", 2, "NULL", "Is it ok?")
            await held.finish(RunStatus.PAUSED)
            await derived(database, caller, project, "forked_from_id", checkpoint_id, "FORK")
            await derived(database, caller, project, "retry_of_id", run.id, "RETRY")
            await derived(database, caller, project, "parent_id", run.id, "SUBWORKFLOW")
            await database.pool.execute("UPDATE runs SET status = 'PENDING' WHERE status = 'QUEUED'")
        async with count_statements(database) as statements:
            runs = (await call(context, LIST))["runs"]["nodes"]
        costs.append(len(statements))
    # One of them only if two loaders miss the cache of versions at the same time.
    assert costs[1] <= costs[0] <= 29
    checkpoints = [checkpoint for run in runs for checkpoint in run["checkpoints"]["nodes"]]
    assert len(checkpoints) == 12
    assert all((row["state"], row["evaluate"]["value"]) == ({"a": 41}, 41) for row in checkpoints)
    assert all(row["completedNodes"] == ["a"] and len(row["forks"]["nodes"]) == 1 for row in checkpoints)
