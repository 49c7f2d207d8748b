"""Cancelled nodes: those of a cancelled run that have not ended, and those that a join has cancelled."""

import asyncio

import pytest

from engine.graph.compiler import compile_spec
from engine.runtime.executor import RunExecutor
from engine.runtime.run_info import RunInfo, StopReason
from engine.spec.parser import parse
from engine.states import NodeStatus, RunStatus
from tests.engine.checkpoint_history import RecordingHeadStore
from tests.engine.memory_ports import RecordedJournal
from tests.engine.runtime.test_first_branch import END, FIRST, TWO, graph, play, slow, value, wait
from tests.executor_worker import GatedNode, edges, node, node_types


async def test_a_cancel_changes_the_nodes_that_have_not_ended() -> None:
    gate, saver, journal = GatedNode(), RecordingHeadStore(), RecordedJournal()
    nodes = [node("before"), {"id": "gated", "type": "gated"}, node("after")]
    spec = parse({"nodes": nodes, "edges": edges("before>gated gated>after")})
    compiled = compile_spec(spec, node_types(gate), saver)
    executor = RunExecutor(
        RunInfo("run_test", "prj_test", 1, 0, None), compiled, journal=journal, head=saver, resources={}
    )
    running = asyncio.create_task(executor.run())
    await asyncio.wait_for(gate.running.wait(), 60)
    executor.request(StopReason.CANCEL)
    await asyncio.wait_for(running, 60)
    assert executor.final_status is RunStatus.CANCELLED
    assert {state.node_id: state.status for state in journal.states} == {
        "before": NodeStatus.COMPLETED,
        "gated": NodeStatus.CANCELLED,
        "after": NodeStatus.CANCELLED,
    }


RETRY = {"backoffS": 0.02, "multiplier": 100}
"""The second attempt begins at once, and the third one two seconds later."""
INTERRUPTED = {
    "while it waits": (wait("b"), ("WAITING", 1), 0.1),
    "while it runs": (slow("b"), ("RUNNING", 1), 0.1),
    "between two attempts": (slow("b", 0, fails=True, retry=RETRY), ("RETRYING", 2), 0.3),
}


@pytest.mark.parametrize("name", INTERRUPTED)
async def test_a_cancelled_node_keeps_its_attempt_its_start_and_its_input(name: str) -> None:
    branch, (status, attempt), after_s = INTERRUPTED[name]
    played = await play(graph(TWO, slow("a", after_s), branch, value("j", **FIRST), END))
    *_, before, cancelled = [state for state in played.states if state.node_id == "b"]
    assert (before.status, before.attempt, before.started_at is None) == (status, attempt, False)
    expected = (NodeStatus.CANCELLED, attempt, before.started_at, before.input)
    assert (cancelled.status, cancelled.attempt, cancelled.started_at, cancelled.input) == expected
