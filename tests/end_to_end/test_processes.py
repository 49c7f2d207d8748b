"""Processes that are stopped and killed: nothing accepted is lost, nothing finished runs again."""

import asyncio
import signal
import time
from typing import Any

from tests.end_to_end.system import CANCEL, System, running

BUSY = "def process():\n    total = 0\n    for i in range(12000000):\n        total += i\n    return 7\n"
SLOW: dict[str, Any] = {
    "nodes": [
        {"id": "first", "type": "code", "config": {"language": "python", "code": "def process():\n    return 7\n"}},
        {"id": "slow", "type": "code", "config": {"language": "python", "code": BUSY, "timeoutS": 30}},
        {"id": "last", "type": "transform", "config": {"output": "{{ first.output + 1 }}"}},
    ],
    "edges": [{"source": "first", "target": "slow"}, {"source": "slow", "target": "last"}],
}


def started(run: Any, node_id: str) -> int:
    changes = [event["nodeState"] for event in run["events"]["nodes"] if "nodeState" in event]
    return sum(1 for state in changes if state["nodeId"] == node_id and state["status"] == "RUNNING")


def ended(run: Any, node_id: str) -> int:
    changes = [event["nodeState"] for event in run["events"]["nodes"] if "nodeState" in event]
    return sum(1 for state in changes if state["nodeId"] == node_id and state["status"] == "COMPLETED")


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


async def test_a_run_goes_on_elsewhere_within_seconds_after_its_worker_was_killed(
    database_url: str, redis_url: str
) -> None:
    """With the default lease of 15 s: the advisory lock tells, not the lease."""
    async with running(database_url, redis_url, workers=2) as system:
        run_id = (await system.run(SLOW, mode="ASYNC"))["run"]["id"]
        await system.until(run_id, "slow", "RUNNING")
        holder = await system.holder(run_id)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        killed = time.monotonic()
        await system.told(run_id, "Claimed again")
        took = time.monotonic() - killed
        run = await system.ended(run_id)
    assert took < 3
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


async def test_a_worker_that_was_stopped_past_its_lease_writes_no_more(database_url: str, redis_url: str) -> None:
    async with running(
        database_url, redis_url, workers=2, lease_ttl_s="2", heartbeat_s="0.5", presence="off"
    ) as system:
        run_id = (await system.run(SLOW, mode="ASYNC"))["run"]["id"]
        await system.until(run_id, "slow", "RUNNING")
        holder = await system.holder(run_id)
        holder.send_signal(signal.SIGSTOP)
        await system.told(run_id, "Claimed again")
        holder.send_signal(signal.SIGCONT)
        run = await system.ended(run_id)
    assert (run["status"], run["output"]) == ("COMPLETED", {"last": 8})
    assert (started(run, "first"), started(run, "slow"), ended(run, "slow")) == (1, 2, 1)
    assert [event["seq"] for event in run["events"]["nodes"]] == list(range(1, run["lastSeq"] + 1))
