"""A worker that is killed while a node waits for its next attempt."""

import asyncio
import signal

from tests.end_to_end.support.system import SystemUnderTest
from tests.peers.http import Peer

BACKOFF_S = 4.0


async def test_a_killed_worker_in_backoff_costs_neither_an_attempt_nor_the_backoff(
    system: SystemUnderTest, peer: Peer
) -> None:
    node = {
        "id": "f",
        "type": "http",
        "config": {"url": f"{peer.url}/status?code=503", "retry": {"maxAttempts": 1}},
        "retry": {"maxAttempts": 2, "backoffS": BACKOFF_S, "multiplier": 1},
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
    while peer.count("/status") == 1:  # noqa: ASYNC110 (the peer has no signal)
        await asyncio.sleep(0.01)
    # The backoff began a moment before its event arrived here.
    assert loop.time() - failed_at > BACKOFF_S - 0.5
    run = await system.wait_for_end(run_id)
    assert (run["status"], run["error"]["code"]) == ("FAILED", "HTTP_STATUS")
    assert run["nodeStates"][0]["attempt"] == 2
    assert peer.count("/status") == 2
