"""Rows 6 under load and 10: what arrives, and how late, when much is going on and many are looking.

The clients share the two cores with what they look at, so they do no more than read frames and take the time.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import orjson
import websockets
from websockets.asyncio.client import ClientConnection, connect

from bench.client import Client
from bench.graphs import chain
from bench.latency import delivery
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import Deployment, memory_of

SOCKETS, EACH, RUNS = 100, 10, 50
NODES, PAUSE_S = 10, 2.0
"""A run goes on every two seconds, as one does that asks models and people."""
STATES = """subscription ($id: ID!) { nodeStates(runId: $id) {
  seq snapshot runStatus nodeState { nodeId status startedAt completedAt } } }"""
ASKED = "query ($id: ID!) { run(id: $id) { waitingFor { ... on InputWait { waitId } } } }"
ANSWER = "mutation ($input: ResumeRunInput!) { resumeRun(input: $input) { errors { detail } } }"


async def under_load(deployment: Deployment, count: int, rate: float) -> list[Figure]:
    """Row 6 once more, while chains of row 1 are accepted at `rate` runs a second."""
    async with _steady(deployment, rate):
        return await delivery(deployment, count, "6 under load", (8, 40))


@asynccontextmanager
async def _steady(deployment: Deployment, rate: float) -> AsyncIterator[None]:
    async with Client(deployment.url) as client:
        workflow_id = await client.create(f"steady {time.time_ns()}", chain(10))

    async def feed() -> None:
        async with Client(deployment.url) as client:
            due = time.perf_counter()
            while True:
                await client.run(workflow_id, {"x": 1}, "ASYNC")
                due += 1 / rate
                await asyncio.sleep(max(due - time.perf_counter(), 0))

    feeding = asyncio.create_task(feed())
    await asyncio.sleep(1)
    try:
        yield
        if feeding.done():
            feeding.result()  # It has failed: nothing was under load.
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def many(deployment: Deployment) -> list[Figure]:
    """Row 10: 1,000 subscriptions over 100 sockets, to 50 runs that live."""
    pid = deployment.server.pid
    await watched(deployment, 4, 1)  # Whatever the first subscription loads is not one subscription's.
    before = memory_of(pid)
    late, lost, memory = await watched(deployment, SOCKETS, EACH, lambda: memory_of(pid))
    each_kb = (memory - before) / (SOCKETS * EACH) / 1024
    return [
        at_most("10", "1,000 subscriptions, 50 live runs: delivery p99", percentile(late, 0.99), 500, "ms"),
        reported("10", "  p50", percentile(late, 0.5), "ms", f"{len(late):,} node states delivered"),
        at_most("10", "  events lost or repeated", lost, 0, ""),
        at_most("10", "  server memory each", each_kb, 40, "KB"),
    ]


async def watched(
    deployment: Deployment,
    sockets: int,
    each: int,
    measure: Any = lambda: 0,
    looked_at: Deployment | None = None,
) -> tuple[list[float], int, int]:
    """(milliseconds late of each change, changes lost or repeated, memory while all were subscribed).

    `looked_at` has the server that is subscribed to, where it is another one.
    """
    async with Client(deployment.url) as client:
        workflow_id = await client.create(f"live {time.time_ns()}", _paced())
        run_ids = [(await client.run(workflow_id, {}, "ASYNC"))["id"] for _ in range(min(RUNS, sockets * each))]
    late: list[float] = []
    wanted = [[run_ids[(socket * each + n) % len(run_ids)] for n in range(each)] for socket in range(sockets)]
    ready = asyncio.Barrier(sockets + 1)
    looking = [asyncio.create_task(_look(looked_at or deployment, ids, late, ready)) for ids in wanted]
    await ready.wait()
    memory = measure()
    async with Client(deployment.url) as client:
        for run_id in run_ids:
            wait_id = (await client.ask(ASKED, id=run_id))["run"]["waitingFor"]["waitId"]
            await client.ask(ANSWER, input={"runId": run_id, "waitId": wait_id, "answer": True})
    lost = sum(await asyncio.gather(*looking))
    return late, lost, memory


def _paced() -> Any:
    """Begins with a question: a run goes on when all who want to look are there."""
    nodes: list[dict[str, Any]] = [{"id": "n0", "type": "human", "config": {"prompt": "Go?"}}]
    nodes += [{"id": f"n{n}", "type": "delay", "config": {"seconds": PAUSE_S}} for n in range(1, NODES)]
    return {"nodes": nodes, "edges": [{"source": f"n{n}", "target": f"n{n + 1}"} for n in range(NODES - 1)]}


async def _look(deployment: Deployment, run_ids: list[str], late: list[float], ready: asyncio.Barrier) -> int:
    url = deployment.url.replace("http", "ws")
    protocol = websockets.Subprotocol("graphql-transport-ws")
    async with connect(url, subprotocols=[protocol], proxy=None, max_queue=None) as socket:
        await socket.send(orjson.dumps({"type": "connection_init"}).decode())
        await socket.recv()
        for place, run_id in enumerate(run_ids):
            payload = {"query": STATES, "variables": {"id": run_id}}
            await socket.send(orjson.dumps({"id": str(place), "type": "subscribe", "payload": payload}).decode())
        return await _read(socket, len(run_ids), late, ready)


async def _read(socket: ClientConnection, count: int, late: list[float], ready: asyncio.Barrier) -> int:
    """Until every subscription has ended. Answers with how many nodes' ends were missing or came twice."""
    ends: list[list[str]] = [[] for _ in range(count)]
    snapshots, over = set[str](), 0
    while over < count:
        message = orjson.loads(await socket.recv())
        now = time.time()
        if message["type"] == "complete":
            over += 1
            continue
        update = message["payload"]["data"]["nodeStates"]
        if update["snapshot"]:
            if message["id"] not in snapshots:
                snapshots.add(message["id"])
                if len(snapshots) == count:
                    await ready.wait()
            continue
        state = update["nodeState"]
        if state is not None and state["status"] == "COMPLETED":
            ends[int(message["id"])].append(state["nodeId"])
            late.append((now - datetime.fromisoformat(state["completedAt"]).timestamp()) * 1000)
    expected = sorted(f"n{n}" for n in range(NODES))
    return sum(sorted(seen) != expected for seen in ends)
