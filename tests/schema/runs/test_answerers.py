"""Who may answer a question: the node names them, and nobody else answers."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from engine.nodes.registry import load_node_types
from persistence.caller import Caller, CallerKind, Role
from persistence.db.ids import new_id
from persistence.events.steps import stored_id
from resolvers.context import Context
from resolvers.runs.start import StartArguments, execute_run, run_workflow, wait_until_idle
from tests.schema_client import call, mutate, new_workflow
from tests.worker.running_worker import running

WAITS = """query($id: ID!) { run(id: $id) { status waits { ... on InputWait {
  waitId mayAnswer answerers { role subjects exceptStarter } } } } }"""


def asking(answerers: Any) -> dict[str, Any]:
    config = {"prompt": "Go on?"} if answerers is None else {"prompt": "Go on?", "answerers": answerers}
    nodes = [{"id": "start", "type": "start"}, {"id": "ask", "type": "human", "config": config}]
    return {"nodes": nodes, "edges": [{"source": "start", "target": "ask"}]}


def as_caller(context: Context, subject: str, role: Role = Role.RUNNER, key_id: str | None = None) -> Context:
    [project] = context.caller.roles
    kind = CallerKind.JWT if key_id is None else CallerKind.KEY
    return replace(context, caller=Caller(subject, {project: role}, kind=kind, credential_id=key_id))


async def answer(context: Context, run_id: str, wait_id: str) -> list[str]:
    """Answer a question, and return the codes of the problems."""
    payload = await mutate(context, "resumeRun", "run { id }", runId=run_id, waitId=wait_id, answer="yes")
    return [problem["code"] for problem in payload["errors"]]


async def test_a_node_names_who_may_answer(context: Context, redis: Redis) -> None:
    limits = {"role": "editor", "subjects": ["bob", "{{ input.manager }}"], "exceptStarter": True}
    workflow_id = await new_workflow(context, asking(limits))
    starter = as_caller(context, "bob", Role.ADMIN)
    run = await run_workflow(starter, StartArguments(workflow_id, inputs={"manager": "cleo"}))
    async with running(context.database, redis, load_node_types()) as runner:
        runner.poll()
        await wait_until_idle(context, run, 20_000)
    manager = as_caller(context, "cleo", Role.EDITOR)
    for caller, may_answer in ((starter, False), (manager, True), (as_caller(context, "dan", Role.ADMIN), False)):
        [wait] = (await call(caller, WAITS, id=run.id))["run"]["waits"]
        assert wait["mayAnswer"] is may_answer
        assert wait["answerers"] == {"role": "EDITOR", "subjects": ["bob", "cleo"], "exceptStarter": True}
    query = "mutation($i: ResumeRunInput!) { resumeRun(input: $i) { errors { code detail } } }"
    input = {"runId": run.id, "waitId": wait["waitId"], "answer": 1}
    refused = (await call(starter, query, i=input))["resumeRun"]["errors"]
    needs = "the role editor or higher and one of the subjects bob, cleo and another caller than the one who started"
    assert refused == [{"code": "FORBIDDEN", "detail": f"This question needs {needs} the run."}]
    assert await answer(manager, run.id, wait["waitId"]) == []


@pytest.fixture
async def question(context: Context) -> tuple[str, str]:
    """A PAUSED run that bob has created, with a question that takes any answer."""
    workflow_id = await new_workflow(context, asking(None))
    run = await run_workflow(as_caller(context, "bob"), StartArguments(workflow_id))
    wait_id = new_id("wait")
    await context.database.pool.execute("UPDATE runs SET status = 'WAITING' WHERE id = $1", run.id)
    await context.database.pool.execute(
        "INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind) VALUES ($1, $2, 'ask', 1, 0, 2, 'INPUT')",
        wait_id,
        run.id,
    )
    return run.id, wait_id


async def limit(context: Context, wait_id: str, **limits: Any) -> None:
    value = {"role": None, "subjects": [], "exceptStarter": False} | limits
    text = orjson.dumps(value).decode()
    await context.database.pool.execute("UPDATE waits SET answerers = $2::text::json WHERE id = $1", wait_id, text)


async def test_all_that_the_node_names_applies(context: Context, question: tuple[str, str]) -> None:
    run_id, wait_id = question
    for limits, subject, role, may_answer in (
        ({}, "bob", Role.RUNNER, True),
        ({}, "bob", Role.VIEWER, False),
        ({"role": "editor"}, "ada", Role.RUNNER, False),
        ({"role": "editor"}, "ada", Role.EDITOR, True),
        ({"role": "editor"}, "ada", Role.ADMIN, True),
        ({"subjects": ["ada"]}, "ada", Role.RUNNER, True),
        ({"subjects": ["ada"]}, "ada", Role.VIEWER, False),
        ({"subjects": ["ada"]}, "Ada", Role.ADMIN, False),
        ({"subjects": ["ada"], "role": "editor"}, "ada", Role.RUNNER, False),
        ({"exceptStarter": True}, "bob", Role.ADMIN, False),
        ({"exceptStarter": True}, "ada", Role.RUNNER, True),
        ({"exceptStarter": True, "subjects": ["bob"]}, "bob", Role.ADMIN, False),
    ):
        caller = as_caller(context, subject, role)
        await limit(context, wait_id, **limits)
        [wait] = (await call(caller, WAITS, id=run_id))["run"]["waits"]
        assert wait["mayAnswer"] is may_answer, (limits, subject, role)
        if not may_answer:
            assert await answer(caller, run_id, wait_id) == ["FORBIDDEN"], (limits, subject, role)
    assert await answer(as_caller(context, "ada"), run_id, wait_id) == ["FORBIDDEN"]
    await limit(context, wait_id, exceptStarter=True)
    assert await answer(as_caller(context, "ada"), run_id, wait_id) == []


async def test_an_api_key_is_not_another_person(context: Context, question: tuple[str, str]) -> None:
    run_id, wait_id = question
    await limit(context, wait_id, exceptStarter=True)
    keys = {}
    for subject in ("bob", "ada"):
        admin = as_caller(context, subject, Role.ADMIN)
        keys[subject] = (await mutate(admin, "createApiKey", "apiKey { id }", name="k", role="RUNNER"))["apiKey"]["id"]
    assert await answer(as_caller(context, keys["bob"], key_id=keys["bob"]), run_id, wait_id) == ["FORBIDDEN"]
    # The other way round: the key has started the run, and its creator answers.
    await context.database.pool.execute("UPDATE runs SET created_by = $2 WHERE id = $1", run_id, keys["ada"])
    assert await answer(as_caller(context, "ada"), run_id, wait_id) == ["FORBIDDEN"]
    assert await answer(as_caller(context, keys["bob"], key_id=keys["bob"]), run_id, wait_id) == []


async def test_who_executes_a_run_has_started_it_too(context: Context, question: tuple[str, str]) -> None:
    run_id, wait_id = question
    await limit(context, wait_id, exceptStarter=True)
    await context.database.pool.execute("UPDATE runs SET status = 'PENDING' WHERE id = $1", run_id)
    ada = as_caller(context, "ada")
    await execute_run(ada, run_id, {}, replace_inputs=True, idempotency_key=None)
    assert await answer(ada, run_id, wait_id) == ["FORBIDDEN"]
    assert await answer(as_caller(context, "cleo"), run_id, wait_id) == []


@pytest.mark.parametrize("relation", ["retry_of_id", "parent_id", "forked_from_id"])
async def test_a_retry_fork_or_child_run_by_another_person_keeps_its_first_starter(
    context: Context, question: tuple[str, str], relation: str
) -> None:
    run_id, wait_id = question
    await limit(context, wait_id, exceptStarter=True)
    pool, workflow_id = context.database.pool, await new_workflow(context)
    first, second = [
        await run_workflow(as_caller(context, subject), StartArguments(workflow_id)) for subject in ("ada", "eve")
    ]
    await pool.execute("UPDATE runs SET retry_of_id = $2 WHERE id = $1", second.id, first.id)
    source = second.id
    if relation == "forked_from_id":
        source = "ckp_0000000000000000000000007x"  # One that is derived from the steps of a stored checkpoint.
        stored = "INSERT INTO checkpoints (run_id, seq, id, step, lineage, is_full, data, next_nodes) "
        stored += "VALUES ($1, 2, $2, 1, 0, true, '', '[]')"
        await pool.execute(stored, second.id, stored_id(source))
    await pool.execute(f"UPDATE runs SET {relation} = $2 WHERE id = $1", run_id, source)
    for subject in ("ada", "bob", "eve"):
        assert await answer(as_caller(context, subject), run_id, wait_id) == ["FORBIDDEN"], subject
    assert await answer(as_caller(context, "cleo"), run_id, wait_id) == []


async def fork(context: Context, run_id: str, **more: Any) -> list[str]:
    """Fork a run from its newest checkpoint, and return the codes of the problems."""
    query = "query($id: ID!) { run(id: $id) { checkpoints { nodes { id } } } }"
    newest = (await call(context, query, id=run_id))["run"]["checkpoints"]["nodes"][0]["id"]
    payload = await mutate(context, "forkRun", "run { id }", checkpointId=newest, **more)
    return [problem["code"] for problem in payload["errors"]]


async def test_a_patch_does_not_answer_for_those_whom_a_child_run_names(context: Context, redis: Redis) -> None:
    child = await new_workflow(context, asking({"subjects": ["bob"]}))
    await mutate(context, "createVersion", "version { id }", workflowId=child, publish=True)
    nodes = [{"id": "start", "type": "start"}, {"id": "child", "type": "subworkflow", "config": {"workflow": child}}]
    spec = {"nodes": nodes, "edges": [{"source": "start", "target": "child"}]}
    runner = as_caller(context, "ada")
    run = await run_workflow(runner, StartArguments(await new_workflow(context, spec)))
    async with running(context.database, redis, load_node_types()) as worker:
        worker.poll()
        await wait_until_idle(context, run, 20_000)
    assert await fork(runner, run.id, patch={"child": {"approved": True}}) == ["FORBIDDEN"]
    assert await fork(runner, run.id) == []
    assert await fork(as_caller(context, "ada", Role.EDITOR), run.id, patch={"child": {"approved": True}}) == []


async def test_a_fork_does_not_answer_for_those_who_may(context: Context, redis: Redis) -> None:
    workflow_id = await new_workflow(context, asking({"subjects": ["bob"], "exceptStarter": True}))
    runner = as_caller(context, "ada")
    run = await run_workflow(runner, StartArguments(workflow_id))
    async with running(context.database, redis, load_node_types()) as runner_process:
        runner_process.poll()
        await wait_until_idle(context, run, 20_000)
    assert await fork(runner, run.id, patch={"ask": {"approved": True}}) == ["FORBIDDEN"]
    assert await fork(runner, run.id) == []
    assert await fork(as_caller(context, "ada", Role.EDITOR), run.id, patch={"ask": {"approved": True}}) == []
