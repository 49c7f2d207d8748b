"""Row 6 under load, and row 10: delivery with many runs and many subscribers.

The clients share the cores with the measured processes, so they only read frames and record the
time.
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

from bench.client import BenchClient
from bench.graphs import chain
from bench.latency import delivery
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import Deployment, memory_of

SOCKETS, SUBSCRIPTIONS_PER_SOCKET, RUNS = 100, 10, 50
NODES, PAUSE_S = 10, 2.0
"""A node of a run ends every two seconds, as in a run that calls models."""
STATES = """subscription ($id: ID!) { nodeStates(runId: $id) {
  seq snapshot runStatus nodeState { nodeId status startedAt completedAt } } }"""
OPEN_WAIT = "query ($id: ID!) { run(id: $id) { waitingFor { ... on InputWait { waitId } } } }"
ANSWER = "mutation ($input: ResumeRunInput!) { resumeRun(input: $input) { errors { detail } } }"


async def under_load(deployment: Deployment, count: int, rate: float) -> list[Figure]:
    """Measure row 6 while the server accepts chains of row 1 at `rate` runs per second."""
    async with _steady_load(deployment, rate):
        return await delivery(deployment, count, "6 under load", (8, 40))


@asynccontextmanager
async def _steady_load(deployment: Deployment, rate: float) -> AsyncIterator[None]:
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"steady {time.time_ns()}", chain(10))

    async def start_runs() -> None:
        async with BenchClient(deployment.url) as client:
            due = time.perf_counter()
            while True:
                await client.run(workflow_id, {"x": 1}, "ASYNC")
                due += 1 / rate
                await asyncio.sleep(max(due - time.perf_counter(), 0))

    load = asyncio.create_task(start_runs())
    await asyncio.sleep(1)
    try:
        yield
        if load.done():
            load.result()  # The load has failed, so the measurement is not valid.
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)


async def many(deployment: Deployment) -> list[Figure]:
    """Measure row 10: 1,000 subscriptions over 100 sockets, to 50 active runs."""
    pid = deployment.server.pid
    # Modules that the first subscription loads do not count as memory of a subscription.
    await measure_delivery(deployment, 4, 1)
    before = memory_of(pid)
    delays, lost, memory = await measure_delivery(deployment, SOCKETS, SUBSCRIPTIONS_PER_SOCKET, lambda: memory_of(pid))
    each_kb = (memory - before) / (SOCKETS * SUBSCRIPTIONS_PER_SOCKET) / 1024
    return [
        at_most("10", "1,000 subscriptions, 50 active runs: delivery p99", percentile(delays, 0.99), 500, "ms"),
        reported("10", "  p50", percentile(delays, 0.5), "ms", f"{len(delays):,} node states delivered"),
        at_most("10", "  events lost or repeated", lost, 0, ""),
        at_most("10", "  server memory per subscription", each_kb, 40, "KB"),
    ]


async def measure_delivery(
    deployment: Deployment,
    sockets: int,
    each: int,
    measure: Any = lambda: 0,
    subscribed_at: Deployment | None = None,
) -> tuple[list[float], int, int]:
    """Start runs, subscribe to them, and measure the delivery of their node states.

    Args:
        sockets: Number of sockets.
        each: Number of subscriptions per socket.
        measure: Called once when all subscriptions are active.
        subscribed_at: The deployment whose server has the subscribers, if it is another one.

    Returns:
        The delay of each update in milliseconds, the number of lost or repeated updates, and the
        result of `measure`.
    """
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"live {time.time_ns()}", _paced())
        run_ids = [(await client.run(workflow_id, {}, "ASYNC"))["id"] for _ in range(min(RUNS, sockets * each))]
    delays: list[float] = []
    subscriptions = [[run_ids[(socket * each + n) % len(run_ids)] for n in range(each)] for socket in range(sockets)]
    ready = asyncio.Barrier(sockets + 1)
    tasks = [asyncio.create_task(_subscribe(subscribed_at or deployment, ids, delays, ready)) for ids in subscriptions]
    await ready.wait()
    memory = measure()
    async with BenchClient(deployment.url) as client:
        for run_id in run_ids:
            wait_id = (await client.execute(OPEN_WAIT, id=run_id))["run"]["waitingFor"]["waitId"]
            await client.execute(ANSWER, input={"runId": run_id, "waitId": wait_id, "answer": True})
    lost = sum(await asyncio.gather(*tasks))
    return delays, lost, memory


def _paced() -> Any:
    """Create a spec that begins with a question, so that runs wait for all subscribers."""
    nodes: list[dict[str, Any]] = [{"id": "n0", "type": "human", "config": {"prompt": "Go?"}}]
    nodes += [{"id": f"n{n}", "type": "delay", "config": {"seconds": PAUSE_S}} for n in range(1, NODES)]
    return {"nodes": nodes, "edges": [{"source": f"n{n}", "target": f"n{n + 1}"} for n in range(NODES - 1)]}


async def _subscribe(deployment: Deployment, run_ids: list[str], delays: list[float], ready: asyncio.Barrier) -> int:
    url = deployment.url.replace("http", "ws")
    protocol = websockets.Subprotocol("graphql-transport-ws")
    async with connect(url, subprotocols=[protocol], proxy=None, max_queue=None) as socket:
        await socket.send(orjson.dumps({"type": "connection_init"}).decode())
        await socket.recv()
        for index, run_id in enumerate(run_ids):
            payload = {"query": STATES, "variables": {"id": run_id}}
            await socket.send(orjson.dumps({"id": str(index), "type": "subscribe", "payload": payload}).decode())
        return await _read(socket, len(run_ids), delays, ready)


async def _read(socket: ClientConnection, count: int, delays: list[float], ready: asyncio.Barrier) -> int:
    """Read until all subscriptions have ended; return the number with missing or repeated ends."""
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
            delays.append((now - datetime.fromisoformat(state["completedAt"]).timestamp()) * 1000)
    expected = sorted(f"n{n}" for n in range(NODES))
    return sum(sorted(nodes) != expected for nodes in ends)
