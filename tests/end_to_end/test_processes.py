"""Processes that are stopped and killed: nothing accepted is lost, nothing finished runs again."""

import asyncio
import signal
from typing import Any

from tests.end_to_end.system import CANCEL, System, running

SLOW: dict[str, Any] = {
    "nodes": [
        {"id": "first", "type": "code", "config": {"language": "python", "code": "def process():\n    return 7\n"}},
        {"id": "slow", "type": "delay", "config": {"seconds": 2}},
        {"id": "last", "type": "transform", "config": {"output": "{{ first.output + 1 }}"}},
    ],
    "edges": [{"source": "first", "target": "slow"}, {"source": "slow", "target": "last"}],
}


def started(run: Any, node_id: str) -> int:
    changes = [event["nodeState"] for event in run["events"]["nodes"] if "nodeState" in event]
    return sum(1 for state in changes if state["nodeId"] == node_id and state["status"] == "RUNNING")


async def test_cancel_stops_the_code_and_then_says_so(system: System) -> None:
    endless = "def process():\n    while True:\n        pass\n"
    spec = {
        "nodes": [{"id": "c", "type": "code", "config": {"language": "python", "code": endless, "timeoutS": 60}}],
        "edges": [],
    }
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    await system.until(run_id, "c", "RUNNING")
    assert (await system.ask(CANCEL, id=run_id))["cancelRun"]["errors"] == []
    run = await system.ended(run_id)
    assert run["status"] == "CANCELLED"
    assert run["nodeStates"][0]["status"] == "CANCELLED"
    terminal = [event for event in run["events"]["nodes"] if event["__typename"] == "RunStatusChanged"]
    assert len(terminal) == 4  # accepted, started, cancelling, cancelled


async def test_a_run_goes_on_after_its_worker_was_killed(database_url: str, redis_url: str) -> None:
    async with running(database_url, redis_url, lease_ttl_s="2", heartbeat_s="0.5") as system:
        run_id = (await system.run(SLOW, mode="ASYNC"))["run"]["id"]
        await system.until(run_id, "slow", "RUNNING")
        killed = system.processes[1]
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        system.start("worker")
        run = await system.ended(run_id)
    assert (run["status"], run["attempt"]) == ("COMPLETED", 2)
    assert run["output"] == {"last": 8}
    assert (started(run, "first"), started(run, "slow")) == (1, 2)


async def test_a_worker_told_to_stop_hands_its_run_over_without_repeating_a_node(
    database_url: str, redis_url: str
) -> None:
    async with running(database_url, redis_url) as system:
        run_id = (await system.run(SLOW, mode="ASYNC"))["run"]["id"]
        await system.until(run_id, "slow", "RUNNING")
        system.processes[1].send_signal(signal.SIGTERM)
        await asyncio.to_thread(system.processes[1].wait, 20)
        system.start("worker")
        run = await system.ended(run_id)
    assert run["status"] == "COMPLETED"
    assert (started(run, "first"), started(run, "slow")) == (1, 1)
