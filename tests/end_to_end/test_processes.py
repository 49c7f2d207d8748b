"""When processes are stopped or killed, no accepted run is lost and no finished node runs again."""

import asyncio
import signal
import time
from typing import Any

from tests.end_to_end.support.system import CANCEL, SystemUnderTest, running
from tests.peers.http import Peer

BUSY = "def process():\n    total = 0\n    for i in range(12000000):\n        total += i\n    return 7\n"
SLOW: dict[str, Any] = {
    "nodes": [
        {"id": "first", "type": "code", "config": {"language": "python", "code": "def process():\n    return 7\n"}},
        {"id": "slow", "type": "code", "config": {"language": "python", "code": BUSY, "timeoutS": 30}},
        {"id": "last", "type": "transform", "config": {"output": "{{ first.output + 1 }}"}},
    ],
    "edges": [{"source": "first", "target": "slow"}, {"source": "slow", "target": "last"}],
}


def start_count(run: Any, node_id: str) -> int:
    changes = [event["nodeState"] for event in run["events"]["nodes"] if "nodeState" in event]
    return sum(1 for state in changes if state["nodeId"] == node_id and state["status"] == "RUNNING")


def end_count(run: Any, node_id: str) -> int:
    changes = [event["nodeState"] for event in run["events"]["nodes"] if "nodeState" in event]
    return sum(1 for state in changes if state["nodeId"] == node_id and state["status"] == "COMPLETED")


async def test_a_run_becomes_cancelled_after_its_code_has_stopped(system: SystemUnderTest) -> None:
    endless = "def process():\n    while True:\n        pass\n"
    spec = {
        "nodes": [{"id": "c", "type": "code", "config": {"language": "python", "code": endless, "timeoutS": 60}}],
        "edges": [],
    }
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    await system.wait_for_node(run_id, "c", "RUNNING")
    assert (await system.execute(CANCEL, id=run_id))["cancelRun"]["errors"] == []
    run = await system.wait_for_end(run_id)
    assert run["status"] == "CANCELLED"
    assert run["nodeStates"][0]["status"] == "CANCELLED"
    terminal = [event for event in run["events"]["nodes"] if event["__typename"] == "RunStatusChanged"]
    assert len(terminal) == 4  # accepted, started, cancelling, cancelled


async def test_a_run_continues_on_another_worker_within_seconds_after_a_kill(database_url: str, redis_url: str) -> None:
    """The default lease is 15 s, so the advisory lock detects the death, not the lease."""
    async with running(database_url, redis_url, workers=2) as system:
        run_id = (await system.run(SLOW, mode="ASYNC"))["run"]["id"]
        await system.wait_for_node(run_id, "slow", "RUNNING")
        worker = await system.worker_of(run_id)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        killed_at = time.monotonic()
        await system.wait_for_message(run_id, "Claimed again")
        recovery_s = time.monotonic() - killed_at
        run = await system.wait_for_end(run_id)
    assert recovery_s < 3
    assert (run["status"], run["attempt"]) == ("COMPLETED", 2)
    assert run["output"] == {"last": 8}
    assert (start_count(run, "first"), start_count(run, "slow")) == (1, 2)


async def test_a_stopping_worker_releases_its_run_without_repeating_a_node(database_url: str, redis_url: str) -> None:
    async with running(database_url, redis_url) as system:
        run_id = (await system.run(SLOW, mode="ASYNC"))["run"]["id"]
        await system.wait_for_node(run_id, "slow", "RUNNING")
        system.processes[1].send_signal(signal.SIGTERM)
        await asyncio.to_thread(system.processes[1].wait, 20)
        system.start("worker")
        run = await system.wait_for_end(run_id)
    assert run["status"] == "COMPLETED"
    assert (start_count(run, "first"), start_count(run, "slow")) == (1, 1)


async def test_a_worker_that_was_frozen_past_its_lease_cannot_write(database_url: str, redis_url: str) -> None:
    async with running(
        database_url, redis_url, workers=2, lease_ttl_s="2", heartbeat_s="0.5", presence="off"
    ) as system:
        run_id = (await system.run(SLOW, mode="ASYNC"))["run"]["id"]
        await system.wait_for_node(run_id, "slow", "RUNNING")
        worker = await system.worker_of(run_id)
        worker.send_signal(signal.SIGSTOP)
        await system.wait_for_message(run_id, "Claimed again")
        worker.send_signal(signal.SIGCONT)
        run = await system.wait_for_end(run_id)
    assert (run["status"], run["output"]) == ("COMPLETED", {"last": 8})
    assert (start_count(run, "first"), start_count(run, "slow"), end_count(run, "slow")) == (1, 2, 1)
    assert [event["seq"] for event in run["events"]["nodes"]] == list(range(1, run["lastSeq"] + 1))


async def test_a_killed_worker_in_backoff_costs_neither_an_attempt_nor_the_backoff(
    system: SystemUnderTest, peer: Peer
) -> None:
    backoff_s = 4.0
    node = {
        "id": "f",
        "type": "http",
        "config": {"url": f"{peer.url}/status?code=503", "retry": {"maxAttempts": 1}},
        "retry": {"maxAttempts": 2, "backoffS": backoff_s, "multiplier": 1},
    }
    loop = asyncio.get_running_loop()
    run_id = (await system.run({"nodes": [node], "edges": []}, mode="ASYNC"))["run"]["id"]
    async for update in system.node_states(run_id):
        if (update["nodeState"] or {}).get("status") == "RETRYING":
            break
    failed_at = loop.time()
    for process in system.processes[1:]:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert peer.count("/status") == 1
    system.start("worker")
    await peer.until(lambda: peer.count("/status") == 2)
    # The backoff began a moment before its event arrived here.
    assert loop.time() - failed_at > backoff_s - 0.5
    run = await system.wait_for_end(run_id)
    assert (run["status"], run["error"]["code"]) == ("FAILED", "HTTP_STATUS")
    assert run["nodeStates"][0]["attempt"] == 2
    assert peer.count("/status") == 2
