"""`map` nodes on real workers: what each item does to the world is counted there, through crashes, pauses and cancels."""

import asyncio
import signal
from collections import Counter
from typing import Any

import asyncpg

from tests.end_to_end.client_actions import do, until
from tests.end_to_end.system import CANCEL, System, running
from tests.journal_worker import wait_until as once
from tests.peers.http import Peer

COUNT = 400
NUMBERS = {"numbers": [[str(number)] for number in range(COUNT)]}
PROGRESS = "subscription ($id: ID!) { nodeStates(runId: $id) { nodeState { nodeId status progress message } } }"


def calling(peer: Peer, path: str = "/echo", count: int = COUNT, **config: Any) -> dict[str, Any]:
    """A call an item; the outputs are the numbers that the peer has echoed."""
    call = {"type": "http", "config": {"method": "POST", "url": f"{peer.url}{path}", "query": {"n": "{{ item }}"}}}
    mapping = {"items": f"{{{{ range({count}) | list }}}}", "node": call, **config}
    return {
        "nodes": [{"id": "m", "type": "map", "config": mapping}],
        "edges": [],
        "outputs": {"numbers": "{{ m.output['items'] | map(attribute='body.query.n') | list }}"},
    }


def calls(peer: Peer) -> Counter[int]:
    return Counter(int(request.one("n")) for request in peer.seen)


async def durable(system: System) -> set[int]:
    connection = await asyncpg.connect(system.database_url)
    rows = await connection.fetch("SELECT idx FROM map_items")
    await connection.close()
    return {row["idx"] for row in rows}


async def test_a_killed_worker_s_map_goes_on_with_the_items_that_are_not_done(
    database_url: str, redis_url: str, peer: Peer
) -> None:
    async with running(database_url, redis_url, http_allow="127.0.0.1") as system:
        run_id = (await system.run(calling(peer, concurrency=4), mode="ASYNC"))["run"]["id"]
        await once(lambda: len(peer.seen) >= COUNT // 2)
        holder = await system.holder(run_id)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        done, before = await durable(system), calls(peer)
        assert len(done) > COUNT // 10
        system.start("worker")
        run = await system.ended(run_id)
        assert (run["status"], run["error"]) == ("COMPLETED", None)
        assert run["output"] == NUMBERS
        after = calls(peer)
        assert set(after) == set(range(COUNT))
        assert all(after[number] == 1 for number in done)
        repeated = {number for number in after if after[number] > 1}
        assert repeated <= set(before) - done
        keys = Counter(request.headers["idempotency-key"] for request in peer.seen)
        assert keys == {f"{run_id}/0/m/1/{number}": count for number, count in after.items()}


async def test_a_pause_keeps_what_is_done_and_the_resume_does_the_rest_once(
    database_url: str, redis_url: str, peer: Peer
) -> None:
    async with running(database_url, redis_url, http_allow="127.0.0.1", pausing_s="0.2") as system:
        run_id = (await system.run(calling(peer, concurrency=4), mode="ASYNC"))["run"]["id"]
        await once(lambda: len(peer.seen) >= 20)
        assert (await do(system, "pauseRun", runId=run_id))["errors"] == []
        await until(system, run_id, "PAUSED")
        before = calls(peer)
        assert 20 <= len(before) < COUNT
        assert (await do(system, "resumeRun", runId=run_id))["errors"] == []
        run = await system.ended(run_id)
        assert run["output"] == NUMBERS
        # Those that were under way when the patience ended are cut off in the middle.
        assert sum(calls(peer).values()) <= COUNT + 4


async def test_a_cancel_stops_all_items_at_once(system: System, peer: Peer) -> None:
    run_id = (await system.run(calling(peer, "/hang", concurrency=8), mode="ASYNC"))["run"]["id"]
    await once(lambda: len(peer.seen) >= 8)
    await system.ask(CANCEL, id=run_id)
    run = await system.ended(run_id)
    assert run["status"] == "CANCELLED"
    assert [state["status"] for state in run["nodeStates"]] == ["CANCELLED"]
    assert len(peer.seen) == 8
    async with asyncio.timeout(5):
        await peer.left.wait()


async def test_progress_over_the_items_is_live(system: System, peer: Peer) -> None:
    run_id = (await system.run(calling(peer, count=100, concurrency=1), mode="ASYNC"))["run"]["id"]
    seen = []
    async for update in system.follow(PROGRESS, id=run_id):
        state = update["nodeStates"]["nodeState"]
        if state and state["nodeId"] == "m":
            seen.append((state["progress"], state["message"]))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert any(0.0 < fraction < 1.0 for fraction in fractions)
    assert any(message and message.endswith(" of 100 items") for _, message in seen)
