"""First of two approvals with real processes: answers, late answers, forks, rewinds and a killed worker."""

from typing import Any

from tests.end_to_end.support.client_actions import mutate, wait_for_status
from tests.end_to_end.support.system import SystemUnderTest

SPEC: dict[str, Any] = {
    "nodes": [
        {"id": "s", "type": "start"},
        {"id": "a", "type": "human", "config": {"prompt": "A"}},
        {"id": "b", "type": "human", "config": {"prompt": "B"}},
        {
            "id": "j",
            "type": "transform",
            "join": "any",
            "config": {"output": "{{ a.output if a.output and a.output.approved else b.output }}"},
        },
        {"id": "e", "type": "end", "config": {"output": "{{ j.output }}"}},
    ],
    "edges": [
        {"source": "s", "target": "a"},
        {"source": "s", "target": "b"},
        {"source": "a", "target": "j", "condition": "a.output.approved"},
        {"source": "b", "target": "j"},
        {"source": "j", "target": "e"},
    ],
}
STATES = "query ($id: ID!) { run(id: $id) { nodeStates { nodeId status message completedAt } } }"
WAITS = "query ($id: ID!) { run(id: $id) { waits { nodeId ... on InputWait { waitId } } } }"
CHECKPOINTS = """query ($id: ID!) { run(id: $id) { checkpoints(first: 100) { nodes { id nextNodes state
    evaluate(expression: "[a.status, b.status]") { value } } } } }"""


async def questions(system: SystemUnderTest, run_id: str) -> dict[str, str]:
    """Return the ids of the open questions by node."""
    run = (await system.execute(WAITS, id=run_id))["run"]
    return {wait["nodeId"]: wait["waitId"] for wait in run["waits"] if "waitId" in wait}


async def answered(system: SystemUnderTest, run_id: str, node_id: str, approved: bool) -> Any:
    wait_id = (await questions(system, run_id))[node_id]
    return await mutate(system, "resumeRun", runId=run_id, waitId=wait_id, answer={"approved": approved})


async def statuses(system: SystemUnderTest, run_id: str) -> dict[str, str]:
    return {state["nodeId"]: state["status"] for state in (await system.read(run_id))["nodeStates"]}


async def asked(system: SystemUnderTest) -> str:
    run_id: str = (await system.run(SPEC, mode="ASYNC"))["run"]["id"]
    await wait_for_status(system, run_id, "WAITING")
    return run_id


async def test_the_first_approval_ends_the_run_and_the_second_is_refused(system: SystemUnderTest) -> None:
    run_id = await asked(system)
    late = (await questions(system, run_id))["b"]
    assert (await answered(system, run_id, "a", True))["errors"] == []
    run = await system.wait_for_end(run_id)
    assert (run["status"], run["output"]) == ("COMPLETED", {"approved": True})
    states = {state["nodeId"]: state for state in (await system.execute(STATES, id=run_id))["run"]["nodeStates"]}
    assert {name: state["status"] for name, state in states.items()} == {
        "s": "COMPLETED",
        "a": "COMPLETED",
        "b": "CANCELLED",
        "j": "COMPLETED",
        "e": "COMPLETED",
    }
    assert states["b"]["message"] == "Cancelled: 'j' has gone on with its first branch (join: any)"
    assert states["b"]["completedAt"] is not None
    refused = await mutate(system, "resumeRun", runId=run_id, waitId=late, answer={"approved": True})
    assert refused["errors"][0]["code"] == "INVALID_STATE"
    assert await questions(system, run_id) == {}


async def test_a_refusal_that_leads_nowhere_leaves_the_other_question_open(system: SystemUnderTest) -> None:
    run_id = await asked(system)
    await answered(system, run_id, "a", False)
    await wait_for_status(system, run_id, "WAITING")
    assert set(await questions(system, run_id)) == {"b"}
    await answered(system, run_id, "b", True)
    run = await system.wait_for_end(run_id)
    assert run["status"] == "COMPLETED"


async def test_forks_and_retries_ask_what_was_open_at_their_checkpoint(system: SystemUnderTest) -> None:
    run_id = await asked(system)
    await answered(system, run_id, "a", True)
    await system.wait_for_end(run_id)
    checkpoints = (await system.execute(CHECKPOINTS, id=run_id))["run"]["checkpoints"]["nodes"]
    before = next(one for one in checkpoints if one["evaluate"]["value"] == ["WAITING", "WAITING"])
    fork = (await mutate(system, "forkRun", checkpointId=before["id"]))["run"]["id"]
    await wait_for_status(system, fork, "WAITING")
    assert set(await questions(system, fork)) == {"a", "b"}
    await answered(system, fork, "b", True)
    assert (await system.wait_for_end(fork))["status"] == "COMPLETED"
    assert (await statuses(system, fork))["a"] == "CANCELLED"

    last = checkpoints[0]
    assert last["evaluate"]["value"] == ["COMPLETED", "CANCELLED"]
    fork = (await mutate(system, "forkRun", checkpointId=last["id"]))["run"]["id"]
    run = await system.wait_for_end(fork)
    assert (run["status"], run["output"]) == ("COMPLETED", {"approved": True})
    assert (await statuses(system, fork))["b"] == "CANCELLED"

    # With another answer of `a`, the join would not have gone on: the other question is asked again.
    patch = {"a": {"approved": False}}
    fork = (await mutate(system, "forkRun", checkpointId=last["id"], patch=patch))["run"]["id"]
    await wait_for_status(system, fork, "WAITING")
    assert set(await questions(system, fork)) == {"b"}
    await answered(system, fork, "b", True)
    assert (await system.wait_for_end(fork))["output"] == {"approved": True}


async def test_a_rewind_to_before_the_first_answer_asks_both_again(system: SystemUnderTest) -> None:
    """The run pauses at a breakpoint behind the join, when the other question is still open or withdrawn."""
    run_id = (await system.run(SPEC, mode="ASYNC", options={"breakpoints": ["e"]}))["run"]["id"]
    await wait_for_status(system, run_id, "WAITING")
    await answered(system, run_id, "a", True)
    await wait_for_status(system, run_id, "PAUSED")
    assert (await statuses(system, run_id))["b"] == "CANCELLED"
    checkpoints = (await system.execute(CHECKPOINTS, id=run_id))["run"]["checkpoints"]["nodes"]
    before = next(one for one in checkpoints if one["evaluate"]["value"] == ["WAITING", "WAITING"])
    await mutate(system, "setBreakpoints", runId=run_id, nodeIds=[])
    assert (await mutate(system, "resumeRun", runId=run_id, checkpointId=before["id"]))["errors"] == []
    await system.wait_for_node(run_id, "b", "WAITING")
    async for _ in system.node_states(run_id):
        if set(await questions(system, run_id)) == {"a", "b"}:
            break
    await answered(system, run_id, "b", True)
    run = await system.wait_for_end(run_id)
    assert run["status"] == "COMPLETED"
    assert (await statuses(system, run_id))["a"] == "CANCELLED"


async def test_a_killed_worker_changes_nothing(system: SystemUnderTest) -> None:
    """The worker dies while a slow branch runs beside the two questions."""
    busy = {
        "code": "def process():\n    n = 0\n    for i in range(4000000):\n        n += 1\n    return n\n",
        "timeoutS": 60,
    }
    spec = {
        "nodes": [*SPEC["nodes"], {"id": "busy", "type": "code", "config": busy}],
        "edges": [*SPEC["edges"], {"source": "s", "target": "busy"}],
    }
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    await system.wait_for_node(run_id, "busy", "RUNNING")
    await system.wait_for_node(run_id, "b", "WAITING")
    worker = await system.worker_of(run_id)
    await answered(system, run_id, "a", True)
    worker.kill()
    system.start("worker")
    run = await system.wait_for_end(run_id)
    assert (run["status"], run["output"]) == ("COMPLETED", {"approved": True})
    assert (await statuses(system, run_id))["b"] == "CANCELLED"


CHILDREN = "query ($id: ID!) { run(id: $id) { derivedRuns(first: 10) { nodes { id status } } } }"


async def test_the_losing_branches_may_be_a_child_run_and_code(system: SystemUnderTest) -> None:
    """Both are stopped when the answer comes, because the join says so."""
    child = {"nodes": [{"id": "q", "type": "human", "config": {"prompt": "in the child"}}]}
    payload = await mutate(system, "createWorkflow", "workflow { id }", name="Asks", spec=child)
    workflow = payload["workflow"]["id"]
    busy = {"code": "def process():\n    n = 0\n    while True:\n        n += 1\n", "timeoutS": 60}
    spec = {
        "nodes": [
            {"id": "a", "type": "human", "config": {"prompt": "A"}},
            {"id": "sub", "type": "subworkflow", "config": {"workflow": workflow}},
            {"id": "busy", "type": "code", "config": busy},
            {
                "id": "j",
                "type": "transform",
                "join": {"mode": "any", "cancelOthers": True},
                "config": {"output": "{{ a.output }}"},
            },
        ],
        "edges": [{"source": source, "target": "j"} for source in ("a", "sub", "busy")],
    }
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    await system.wait_for_node(run_id, "sub", "WAITING")
    await system.wait_for_node(run_id, "a", "WAITING")
    await answered(system, run_id, "a", True)
    run = await system.wait_for_end(run_id)
    assert (run["status"], run["output"]) == ("COMPLETED", {"j": {"approved": True}})
    assert await statuses(system, run_id) == {
        "a": "COMPLETED",
        "sub": "CANCELLED",
        "busy": "CANCELLED",
        "j": "COMPLETED",
    }
    [child_run] = (await system.execute(CHILDREN, id=run_id))["run"]["derivedRuns"]["nodes"]
    assert (await system.wait_for_end(child_run["id"]))["status"] == "CANCELLED"
