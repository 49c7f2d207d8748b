"""A derived run shows the ports and the edges of the nodes that it copies or patches."""

from typing import Any

from persistence.caller import Caller
from persistence.workflows.drafts import Content
from persistence.workflows.versions import ensure_adhoc
from resolvers.context import Context
from tests.executor_worker import ExecutorWorker, accept_spec, all_checkpoints, node
from tests.resolvers.runs.derive.derived_runs import derived, execute
from tests.schema_client import call

EDGES = """query ($id: ID!) { run(id: $id) { edgeStates { edgeId status visits } nodeStates { nodeId port } } }"""


STATES = """query ($id: ID!) { run(id: $id) { checkpoints(first: 50) { nodes { id state } } } }"""


def edge(id: str, source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "source": source, "target": target, **fields}


CHOICE: dict[str, Any] = {
    "nodes": [
        {"id": "a", "type": "transform", "config": {"output": 1}},
        {"id": "check", "type": "conditional", "config": {"condition": "a.output > 5"}},
        {"id": "yes", "type": "tick", "config": {"output": "yes"}},
        {"id": "no", "type": "tick", "config": {"output": "no"}},
        {"id": "end", "type": "transform", "config": {"output": 2}},
    ],
    "edges": [
        edge("high", "a", "end", condition="a.output > 5"),
        edge("first", "a", "check", condition="a.output < 5"),
        edge("y", "check", "yes", port="true"),
        edge("n", "check", "no", port="false"),
    ],
}


async def shown(context: Context, run_id: str) -> tuple[dict[str, str], dict[str, int], dict[str, str]]:
    """Return the status and the visits of each edge, and the port of each node that has one."""
    run = (await call(context, EDGES, id=run_id))["run"]
    states = {one["edgeId"]: one["status"] for one in run["edgeStates"]}
    visits = {one["edgeId"]: one["visits"] for one in run["edgeStates"] if one["visits"]}
    return states, visits, {one["nodeId"]: one["port"] for one in run["nodeStates"] if one["port"]}


async def test_a_patched_node_shows_the_edges_that_its_new_output_takes(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, CHOICE)
    await execute(worker, run_id)
    expected = {"high": "SKIPPED", "first": "TAKEN", "y": "SKIPPED", "n": "TAKEN"}
    assert await shown(context, run_id) == (expected, {"first": 1, "n": 1}, {"check": "false"})
    last = (await all_checkpoints(context.database, run_id))[-1]
    fork = (await derived(context, "forkRun", checkpointId=last.id, patch={"check": {"result": True}}))["id"]
    expected = {"high": "SKIPPED", "first": "TAKEN", "y": "TAKEN", "n": "SKIPPED"}
    for _ in range(2):
        assert await shown(context, fork) == (expected, {"first": 1, "y": 1}, {"check": "true"})
        await execute(worker, fork)
    fork = (await derived(context, "forkRun", checkpointId=last.id, patch={"a": 9}))["id"]
    await execute(worker, fork)
    expected = {"high": "TAKEN", "first": "SKIPPED", "y": "SKIPPED", "n": "SKIPPED"}
    assert await shown(context, fork) == (expected, {"high": 1}, {})


async def test_edges_keep_their_states_in_another_version(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, CHOICE)
    await execute(worker, run_id)
    added = {"id": "added", "type": "transform", "config": {"output": 3}}
    edges = [*reversed(CHOICE["edges"]), edge("new", "no", "added")]
    other = {"nodes": [*CHOICE["nodes"], added], "edges": edges}
    async with context.database.begin() as connection:
        version = await ensure_adhoc(connection, caller, project, Content(other, "other"))
    row = (await all_checkpoints(context.database, run_id))[-2]
    fork = (await derived(context, "forkRun", checkpointId=row.id, versionId=version.id))["id"]
    await execute(worker, fork)
    states, visits, _ = await shown(context, fork)
    assert states == {"n": "TAKEN", "y": "SKIPPED", "first": "TAKEN", "high": "SKIPPED", "new": "TAKEN"}
    assert visits == {"n": 1, "first": 1, "new": 1}


LOOP: dict[str, Any] = {
    "nodes": [node("s"), node("h", "tick"), node("w"), node("x")],
    "edges": [
        edge("in", "s", "h"),
        edge("body", "h", "w"),
        edge("again", "w", "h", condition="w.output < 4"),
        edge("leave", "w", "x", condition="w.output >= 4"),
    ],
}


async def test_a_fork_within_a_loop_goes_on_counting(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, LOOP)
    await execute(worker, run_id)
    _, whole, _ = await shown(context, run_id)
    assert whole == {"in": 1, "body": 4, "again": 3, "leave": 1}
    for row in await all_checkpoints(context.database, run_id):
        fork = (await derived(context, "forkRun", checkpointId=row.id))["id"]
        await execute(worker, fork)
        assert (await shown(context, fork))[1] == whole


BRANCHES: dict[str, Any] = {
    "nodes": [node("h", "tick"), node("check", "tick"), node("odd", "tick"), node("w"), node("x")],
    "edges": [
        edge("start", "__start__", "h"),
        edge("body", "h", "check", condition="h.output < 7"),
        edge("some", "check", "odd", condition="check.output % 2 == 1"),
        edge("direct", "check", "w", condition="check.output % 2 == 0"),
        edge("joined", "odd", "w"),
        edge("again", "w", "h"),
        edge("leave", "h", "x", condition="h.output >= 7"),
    ],
}


async def test_a_fork_of_a_loop_counts_the_edges_of_nodes_that_were_skipped(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, BRANCHES)
    await execute(worker, run_id)
    whole = await shown(context, run_id)
    assert whole[1]["joined"] == whole[1]["some"] > 1
    for row in await all_checkpoints(context.database, run_id):
        fork = (await derived(context, "forkRun", checkpointId=row.id))["id"]
        await execute(worker, fork)
        assert await shown(context, fork) == whole


async def test_a_patch_within_a_loop_goes_on_counting(
    context: Context, worker: ExecutorWorker, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(context.database, caller, project, LOOP)
    await execute(worker, run_id)
    whole = (await shown(context, run_id))[1]
    checkpoints = (await call(context, STATES, id=run_id))["run"]["checkpoints"]["nodes"]
    patched = [one for one in checkpoints if "w" in one["state"]]
    assert len(patched) > 3
    for one in patched:
        patch = {"w": one["state"]["w"]}
        fork = (await derived(context, "forkRun", checkpointId=one["id"], patch=patch))["id"]
        await execute(worker, fork)
        assert (await shown(context, fork))[1] == whole
