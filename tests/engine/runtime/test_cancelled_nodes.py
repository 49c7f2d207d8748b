"""The nodes of a cancelled run: those that ran or had not started are CANCELLED, and the others stay as they are."""

import asyncio

from engine.graph.compiler import compile_spec
from engine.runtime.executor import RunExecutor
from engine.runtime.run_info import RunInfo, StopReason
from engine.spec.parser import parse
from engine.states import NodeStatus, RunStatus
from tests.engine.checkpoint_history import RecordingHeadStore
from tests.engine.memory_ports import RecordedJournal
from tests.executor_worker import GatedNode, edges, node, node_types


async def test_a_cancel_changes_the_nodes_that_have_not_ended() -> None:
    gate, saver, journal = GatedNode(), RecordingHeadStore(), RecordedJournal()
    nodes = [node("before"), {"id": "gated", "type": "gated"}, node("after")]
    spec = parse({"nodes": nodes, "edges": edges("before>gated gated>after")})
    graph = compile_spec(spec, node_types(gate), saver)
    executor = RunExecutor(
        RunInfo("run_test", "prj_test", 1, 0, None), graph, journal=journal, head=saver, resources={}
    )
    running = asyncio.create_task(executor.run())
    await asyncio.wait_for(gate.running.wait(), 10)
    executor.request(StopReason.CANCEL)
    await asyncio.wait_for(running, 10)
    assert executor.final_status is RunStatus.CANCELLED
    assert {state.node_id: state.status for state in journal.states} == {
        "before": NodeStatus.COMPLETED,
        "gated": NodeStatus.CANCELLED,
        "after": NodeStatus.CANCELLED,
    }
