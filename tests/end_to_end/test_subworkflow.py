"""Parent and child runs with real processes, through crashes and cancels."""

import asyncio
import signal
from typing import Any

from tests.end_to_end.support.client_actions import mutate, wait_for_status
from tests.end_to_end.support.system import SystemUnderTest

RELATED = """
query ($id: ID!) {
  run(id: $id) {
    status output error { code message details }
    waits { nodeId ... on RunWait { run { id status } } }
    derivedRuns(source: [SUBWORKFLOW]) { nodes { id status source output parent { id } } }
  }
}
"""
DOUBLE = {"nodes": [{"id": "double", "type": "transform", "config": {"output": "{{ input.n * 2 }}"}}], "edges": []}


def waiting(seconds: float) -> dict[str, Any]:
    return {"nodes": [{"id": "wait", "type": "delay", "config": {"seconds": seconds}}], "edges": []}


def calling(workflow_id: str, inputs: Any = None, **node: Any) -> dict[str, Any]:
    config = {"workflow": workflow_id, "inputs": inputs or {}}
    return {"nodes": [{"id": "call", "type": "subworkflow", "config": config, **node}], "edges": []}


async def create_workflow(system: SystemUnderTest, spec: Any) -> str:
    payload = await mutate(system, "createWorkflow", "workflow { id } errors { detail }", name="A workflow", spec=spec)
    assert payload["errors"] == []
    return str(payload["workflow"]["id"])


async def related(system: SystemUnderTest, run_id: str) -> Any:
    return (await system.execute(RELATED, id=run_id))["run"]


async def test_the_output_of_a_child_run_is_the_output_of_the_node(system: SystemUnderTest) -> None:
    child = await create_workflow(system, DOUBLE)
    answer = await system.run(calling(child, {"n": "{{ input.n }}"}), {"n": 21})
    assert (answer["run"]["status"], answer["run"]["output"]) == ("COMPLETED", {"call": {"double": 42}})
    run = await related(system, answer["run"]["id"])
    [child_run] = run["derivedRuns"]["nodes"]
    assert (child_run["status"], child_run["source"], child_run["parent"]["id"]) == (
        "COMPLETED",
        "SUBWORKFLOW",
        answer["run"]["id"],
    )


async def test_a_failed_child_fails_the_node_and_is_named_in_the_error(system: SystemUnderTest) -> None:
    child = await create_workflow(
        system,
        {
            "nodes": [{"id": "bad", "type": "code", "config": {"code": "def process():\n    raise ValueError('no')"}}],
            "edges": [],
        },
    )
    answer = await system.run(calling(child))
    run = await related(system, answer["run"]["id"])
    [child_run] = run["derivedRuns"]["nodes"]
    assert (run["status"], run["error"]["code"]) == ("FAILED", "SUBWORKFLOW")
    assert child_run["id"] in run["error"]["message"]
    assert run["error"]["details"]["error"]["node_id"] == "bad"


async def test_a_child_that_cannot_be_started_fails_the_node(system: SystemUnderTest) -> None:
    answer = await system.run(calling("wf_01h45ytscbebyvny4gc8cr8ma2"))
    assert answer["run"]["error"]["code"] == "SUBWORKFLOW"
    assert "wf_01h45ytscbebyvny4gc8cr8ma2" in answer["run"]["error"]["message"]
    child = await create_workflow(system, {**DOUBLE, "inputs": {"type": "object", "required": ["n"]}})
    answer = await system.run(calling(child))
    assert "the inputs are invalid" in answer["run"]["error"]["message"]


async def test_a_parent_waits_without_a_worker_and_is_cancelled_with_all_descendants(system: SystemUnderTest) -> None:
    lowest = await create_workflow(system, waiting(600))
    middle = await create_workflow(system, calling(lowest))
    run_id = (await system.run(calling(middle), mode="ASYNC"))["run"]["id"]
    await wait_for_status(system, run_id, "WAITING")
    run = await related(system, run_id)
    child_id = run["waits"][0]["run"]["id"]
    await wait_for_status(system, child_id, "WAITING")
    grandchild_id = (await related(system, child_id))["waits"][0]["run"]["id"]
    assert (await mutate(system, "cancelRun", runId=run_id))["errors"] == []
    ended = await asyncio.gather(*(system.wait_for_end(one) for one in (run_id, child_id, grandchild_id)))
    assert [one["status"] for one in ended] == ["CANCELLED"] * 3


async def test_a_failed_parent_cancels_its_waiting_child(system: SystemUnderTest) -> None:
    child = await create_workflow(system, waiting(600))
    spec = calling(child)
    fails = {"code": "def process():\n    raise ValueError('no')"}
    spec["nodes"] += [
        {"id": "later", "type": "delay", "config": {"seconds": 0.5}},
        {"id": "bad", "type": "code", "config": fails},
    ]
    spec["edges"] = [{"source": "later", "target": "bad"}]
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    assert (await system.wait_for_end(run_id))["status"] == "FAILED"
    [child_run] = (await related(system, run_id))["derivedRuns"]["nodes"]
    assert (await system.wait_for_end(child_run["id"]))["status"] == "CANCELLED"


async def test_a_child_whose_parent_is_deleted_is_cancelled(system: SystemUnderTest) -> None:
    """The row of the child has no parent any more, so recovery could not find it later."""
    lowest = await create_workflow(system, waiting(600))
    child = await create_workflow(system, calling(lowest))
    parent = await create_workflow(system, calling(child))
    started = await mutate(system, "runWorkflow", "run { id } errors { detail }", workflowId=parent)
    run_id = started["run"]["id"]
    await wait_for_status(system, run_id, "WAITING")
    child_id = (await related(system, run_id))["waits"][0]["run"]["id"]
    await wait_for_status(system, child_id, "WAITING")
    grandchild_id = (await related(system, child_id))["waits"][0]["run"]["id"]
    deleted = await mutate(system, "deleteWorkflow", "deletedId errors { detail }", id=parent, cancelRuns=True)
    assert deleted["errors"] == []
    ended = await asyncio.gather(*(system.wait_for_end(one) for one in (child_id, grandchild_id)))
    assert [one["status"] for one in ended] == ["CANCELLED"] * 2


async def test_a_workflow_that_runs_itself_fails_at_the_depth_limit(system: SystemUnderTest) -> None:
    itself = await create_workflow(system, DOUBLE)
    saved = await mutate(
        system,
        "saveDraft",
        "draft { revision } errors { detail }",
        workflowId=itself,
        spec=calling(itself),
        expectedRevision=1,
    )
    assert saved["errors"] == []
    answer = await mutate(
        system,
        "runWorkflow",
        "run { id status error { code message } } errors { detail }",
        workflowId=itself,
        mode="SYNC",
        timeoutMs=30_000,
    )
    assert answer["run"]["status"] == "FAILED"
    assert "10 deep" in answer["run"]["error"]["message"]


async def test_a_parent_whose_worker_was_killed_finds_its_child_run(system: SystemUnderTest) -> None:
    child = await create_workflow(system, waiting(3))
    spec = calling(child)
    # This branch keeps the parent RUNNING in its worker.
    busy = {"code": "def process():\n    n = 0\n    while True:\n        n += 1\n", "timeoutS": 3}
    spec["nodes"].append({"id": "busy", "type": "code", "config": busy, "onError": "continue"})
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    await system.wait_for_node(run_id, "call", "WAITING")
    worker = await system.worker_of(run_id)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    system.start("worker")
    run = await system.wait_for_end(run_id)
    assert run["status"] == "COMPLETED"
    assert len((await related(system, run_id))["derivedRuns"]["nodes"]) == 1
