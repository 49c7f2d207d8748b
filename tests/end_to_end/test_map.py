"""`map` nodes on real workers: a peer counts the calls of each item in spite of crashes."""

import asyncio
import signal
from collections import Counter
from typing import Any

import asyncpg

from tests.end_to_end.support.client_actions import mutate, wait_for_status
from tests.end_to_end.support.system import CANCEL, SystemUnderTest, running
from tests.peers.http import Peer

COUNT = 400
NUMBERS = {"numbers": [[str(number)] for number in range(COUNT)]}
PROGRESS = "subscription ($id: ID!) { nodeStates(runId: $id) { nodeState { nodeId status progress message } } }"


def calling(peer: Peer, path: str = "/echo", count: int = COUNT, **config: Any) -> dict[str, Any]:
    """Create a spec that calls the peer for each item; its output is the list of echoed numbers."""
    call = {"type": "http", "config": {"method": "POST", "url": f"{peer.url}{path}", "query": {"n": "{{ item }}"}}}
    mapping = {"items": f"{{{{ range({count}) | list }}}}", "node": call, **config}
    return {
        "nodes": [{"id": "m", "type": "map", "config": mapping}],
        "edges": [],
        "outputs": {"numbers": "{{ m.output['items'] | map(attribute='body.query.n') | list }}"},
    }


def calls(peer: Peer) -> Counter[int]:
    return Counter(int(request.one("n")) for request in peer.seen)


async def durable_items(system: SystemUnderTest) -> set[int]:
    connection = await asyncpg.connect(system.database_url)
    rows = await connection.fetch("SELECT idx FROM map_items")
    await connection.close()
    return {row["idx"] for row in rows}


async def test_the_map_of_a_killed_worker_continues_with_the_unfinished_items(
    database_url: str, redis_url: str, peer: Peer
) -> None:
    async with running(database_url, redis_url, http_allow="127.0.0.1") as system:
        run_id = (await system.run(calling(peer, concurrency=4), mode="ASYNC"))["run"]["id"]
        await peer.until(lambda: len(peer.seen) >= COUNT // 2)
        worker = await system.worker_of(run_id)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        done, before = await durable_items(system), calls(peer)
        assert len(done) > COUNT // 10
        system.start("worker")
        run = await system.wait_for_end(run_id)
        assert (run["status"], run["error"]) == ("COMPLETED", None)
        assert run["output"] == NUMBERS
        after = calls(peer)
        assert set(after) == set(range(COUNT))
        assert all(after[number] == 1 for number in done)
        repeated = {number for number in after if after[number] > 1}
        assert repeated <= set(before) - done
        keys = Counter(request.headers["idempotency-key"] for request in peer.seen)
        assert keys == {f"{run_id}/0/m/1/{number}": count for number, count in after.items()}


async def test_a_resume_after_a_pause_executes_only_the_unfinished_items(
    database_url: str, redis_url: str, peer: Peer
) -> None:
    async with running(database_url, redis_url, http_allow="127.0.0.1", pausing_s="0.2") as system:
        run_id = (await system.run(calling(peer, concurrency=4), mode="ASYNC"))["run"]["id"]
        await peer.until(lambda: len(peer.seen) >= 20)
        assert (await mutate(system, "pauseRun", runId=run_id))["errors"] == []
        await wait_for_status(system, run_id, "PAUSED")
        before = calls(peer)
        assert 20 <= len(before) < COUNT
        assert (await mutate(system, "resumeRun", runId=run_id))["errors"] == []
        run = await system.wait_for_end(run_id)
        assert run["output"] == NUMBERS
        # Items that were running at the end of the pausing time are cancelled and run again.
        assert sum(calls(peer).values()) <= COUNT + 4


async def test_a_cancel_stops_all_items_immediately(system: SystemUnderTest, peer: Peer) -> None:
    run_id = (await system.run(calling(peer, "/hang", concurrency=8), mode="ASYNC"))["run"]["id"]
    await peer.until(lambda: len(peer.seen) >= 8)
    await system.execute(CANCEL, id=run_id)
    run = await system.wait_for_end(run_id)
    assert run["status"] == "CANCELLED"
    assert [state["status"] for state in run["nodeStates"]] == ["CANCELLED"]
    assert len(peer.seen) == 8
    async with asyncio.timeout(5):
        await peer.left.wait()


async def test_progress_over_the_items_is_published_live(system: SystemUnderTest, peer: Peer) -> None:
    run_id = (await system.run(calling(peer, count=100, concurrency=1), mode="ASYNC"))["run"]["id"]
    updates = []
    async for update in system.subscribe(PROGRESS, id=run_id):
        state = update["nodeStates"]["nodeState"]
        if state and state["nodeId"] == "m":
            updates.append((state["progress"], state["message"]))
    fractions = [fraction for fraction, _ in updates]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert any(0.0 < fraction < 1.0 for fraction in fractions)
    assert any(message and message.endswith(" of 100 items") for _, message in updates)
