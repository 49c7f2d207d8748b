"""Workflows that run others: as parent and child, with real processes, through crashes and cancels."""

import asyncio
import signal
from typing import Any

from tests.end_to_end.client_actions import do, until
from tests.end_to_end.system import System

KIN = """
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


async def workflow(system: System, spec: Any) -> str:
    made = await do(system, "createWorkflow", "workflow { id } errors { detail }", name="A workflow", spec=spec)
    assert made["errors"] == []
    return str(made["workflow"]["id"])


async def kin(system: System, run_id: str) -> Any:
    return (await system.ask(KIN, id=run_id))["run"]


async def test_a_child_runs_and_its_output_is_the_nodes(system: System) -> None:
    child = await workflow(system, DOUBLE)
    answer = await system.run(calling(child, {"n": "{{ input.n }}"}), {"n": 21})
    assert (answer["run"]["status"], answer["run"]["output"]) == ("COMPLETED", {"call": {"double": 42}})
    run = await kin(system, answer["run"]["id"])
    [made] = run["derivedRuns"]["nodes"]
    assert (made["status"], made["source"], made["parent"]["id"]) == ("COMPLETED", "SUBWORKFLOW", answer["run"]["id"])


async def test_a_child_that_fails_fails_the_node_and_says_which_run_it_was(system: System) -> None:
    child = await workflow(
        system,
        {
            "nodes": [{"id": "bad", "type": "code", "config": {"code": "def process():\n    raise ValueError('no')"}}],
            "edges": [],
        },
    )
    answer = await system.run(calling(child))
    run = await kin(system, answer["run"]["id"])
    [made] = run["derivedRuns"]["nodes"]
    assert (run["status"], run["error"]["code"]) == ("FAILED", "SUBWORKFLOW")
    assert made["id"] in run["error"]["message"]
    assert run["error"]["details"]["error"]["node_id"] == "bad"


async def test_what_cannot_be_started_is_said_by_the_node(system: System) -> None:
    answer = await system.run(calling("wf_01h45ytscbebyvny4gc8cr8ma2"))
    assert answer["run"]["error"]["code"] == "SUBWORKFLOW"
    assert "wf_01h45ytscbebyvny4gc8cr8ma2" in answer["run"]["error"]["message"]
    child = await workflow(system, {**DOUBLE, "inputs": {"type": "object", "required": ["n"]}})
    answer = await system.run(calling(child))
    assert "do not fit" in answer["run"]["error"]["message"]


async def test_a_parent_waits_without_a_worker_and_is_cancelled_with_all_below_it(system: System) -> None:
    lowest = await workflow(system, waiting(600))
    middle = await workflow(system, calling(lowest))
    run_id = (await system.run(calling(middle), mode="ASYNC"))["run"]["id"]
    await until(system, run_id, "WAITING")
    run = await kin(system, run_id)
    child_id = run["waits"][0]["run"]["id"]
    await until(system, child_id, "WAITING")
    grandchild_id = (await kin(system, child_id))["waits"][0]["run"]["id"]
    assert (await do(system, "cancelRun", runId=run_id))["errors"] == []
    ended = await asyncio.gather(*(system.ended(one) for one in (run_id, child_id, grandchild_id)))
    assert [one["status"] for one in ended] == ["CANCELLED"] * 3


async def test_a_parent_that_fails_cancels_the_child_that_nobody_waits_for_any_more(system: System) -> None:
    child = await workflow(system, waiting(600))
    spec = calling(child)
    fails = {"code": "def process():\n    raise ValueError('no')"}
    spec["nodes"] += [
        {"id": "later", "type": "delay", "config": {"seconds": 0.5}},
        {"id": "bad", "type": "code", "config": fails},
    ]
    spec["edges"] = [{"source": "later", "target": "bad"}]
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    assert (await system.ended(run_id))["status"] == "FAILED"
    [made] = (await kin(system, run_id))["derivedRuns"]["nodes"]
    assert (await system.ended(made["id"]))["status"] == "CANCELLED"


async def test_a_child_whose_parent_is_deleted_is_cancelled(system: System) -> None:
    """Its row names no parent any more, so nobody would find later that it runs for nobody."""
    lowest = await workflow(system, waiting(600))
    child = await workflow(system, calling(lowest))
    parent = await workflow(system, calling(child))
    started = await do(system, "runWorkflow", "run { id } errors { detail }", workflowId=parent)
    run_id = started["run"]["id"]
    await until(system, run_id, "WAITING")
    child_id = (await kin(system, run_id))["waits"][0]["run"]["id"]
    await until(system, child_id, "WAITING")
    grandchild_id = (await kin(system, child_id))["waits"][0]["run"]["id"]
    deleted = await do(system, "deleteWorkflow", "deletedId errors { detail }", id=parent, cancelRuns=True)
    assert deleted["errors"] == []
    ended = await asyncio.gather(*(system.ended(one) for one in (child_id, grandchild_id)))
    assert [one["status"] for one in ended] == ["CANCELLED"] * 2


async def test_a_workflow_that_runs_itself_comes_to_an_end(system: System) -> None:
    itself = await workflow(system, DOUBLE)
    saved = await do(
        system,
        "saveDraft",
        "draft { revision } errors { detail }",
        workflowId=itself,
        spec=calling(itself),
        expectedRevision=1,
    )
    assert saved["errors"] == []
    answer = await do(
        system,
        "runWorkflow",
        "run { id status error { code message } } errors { detail }",
        workflowId=itself,
        mode="SYNC",
        timeoutMs=30_000,
    )
    assert answer["run"]["status"] == "FAILED"
    assert "10 deep" in answer["run"]["error"]["message"]


async def test_a_parent_whose_worker_is_killed_finds_the_child_that_it_has_started(system: System) -> None:
    child = await workflow(system, waiting(3))
    spec = calling(child)
    # A branch that keeps the parent in its worker.
    busy = {"code": "def process():\n    n = 0\n    while True:\n        n += 1\n", "timeoutS": 3}
    spec["nodes"].append({"id": "busy", "type": "code", "config": busy, "onError": "continue"})
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    await system.until(run_id, "call", "WAITING")
    holder = await system.holder(run_id)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    system.start("worker")
    run = await system.ended(run_id)
    assert run["status"] == "COMPLETED"
    assert len((await kin(system, run_id))["derivedRuns"]["nodes"]) == 1
