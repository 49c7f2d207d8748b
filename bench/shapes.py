"""Rows 2b, 9b and 17: a mixed graph, a long loop and large maps.

The http nodes call a server of this process, whose CPU time does not count.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import orjson
import websockets
from websockets.asyncio.client import connect

from bench.baselines import measure_mixed, measure_requests
from bench.client import BenchClient
from bench.graphs import Spec, counting_loop, mapped, mixed, visits_of_mixed
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import Deployment

ANSWER_S = 0.001
MIXED_RUNS, PARALLEL_RUNS = 120, 8
TIMES = 5
VISITS, EDGE_VISITS, LONG_BODY = 1000, 100, 9
QUICK_ITEMS, HTTP_ITEMS = 10_000, 1_000
RUN_TO_QUESTION = """mutation ($input: RunWorkflowInput!) { runWorkflow(input: $input) {
  run { id status waitingFor { ... on InputWait { waitId } } } errors { detail } } }"""
ANSWER = """mutation ($input: ResumeRunInput!) {
  resumeRun(input: $input) { run { status } errors { detail } } }"""
UPDATES = "subscription ($id: ID!) { runUpdates(runId: $id, types: [RUN_STATUS]) { __typename } }"


@asynccontextmanager
async def slow_peer() -> AsyncIterator[str]:
    """Serve JSON over HTTP/1.1, each answer after one millisecond, and yield the URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(ANSWER_S)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()  # The client has closed the connection.

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def shapes(deployment: Deployment) -> list[Figure]:
    """Measure rows 2b, 9b and 17. The deployment may call loopback addresses."""
    async with slow_peer() as url:
        figures = await _mixed(deployment, url)
        figures += [await _late_visits(deployment), await _resume(deployment)]
        return figures + await _maps(deployment, url)


async def _mixed(deployment: Deployment, url: str) -> list[Figure]:
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"mixed {time.time_ns()}", mixed(url))
        await client.run(workflow_id, {"x": 1})
    before = sum(deployment.cpu().values())

    async def run_some() -> None:
        async with BenchClient(deployment.url) as one:
            for _ in range(MIXED_RUNS // PARALLEL_RUNS):
                await one.run(workflow_id, {"x": 1})

    await asyncio.gather(*(run_some() for _ in range(PARALLEL_RUNS)))
    used = (sum(deployment.cpu().values()) - before) / MIXED_RUNS / visits_of_mixed() * 1000
    bare = await asyncio.to_thread(measure_mixed, url)
    return [
        reported("2b", "mixed graph of 30 nodes: CPU per visit, bare LangGraph", bare, "ms"),
        at_most("2b", "  all processes ÷ bare LangGraph", used / bare, 2, note=f"{used:.2f} ms"),
    ]


async def _late_visits(deployment: Deployment) -> Figure:
    """Measure the time of the last visits of a loop, relative to that of the first ones."""
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"loop {time.time_ns()}", counting_loop(VISITS))
        run_ids = [(await client.run(workflow_id, {"x": 0}))["id"] for _ in range(TIMES)]
    ends = [await _visit_ends(deployment, run_id) for run_id in run_ids]
    ratios = [(one[-1] - one[-EDGE_VISITS]) / (one[EDGE_VISITS] - one[1]) for one in ends]
    return at_most("9b", "loop: visits 901 to 1,000 ÷ visits 2 to 101", percentile(ratios, 0.5), 1.2)


async def _visit_ends(deployment: Deployment, run_id: str) -> list[float]:
    connection = await asyncpg.connect(deployment.database_url)
    try:
        query = """SELECT at FROM events WHERE run_id = $1 AND node_id = 'count' AND type = 'NODE_STATE'
                AND coalesce(body->>'status', 'COMPLETED') = 'COMPLETED' ORDER BY seq"""
        return [row["at"].timestamp() for row in await connection.fetch(query, run_id)]
    finally:
        await connection.close()


async def _resume(deployment: Deployment) -> Figure:
    """Measure the time from an answer to the end of the run, after 10,000 visits and after 10."""
    many = await _resume_ms(deployment, counting_loop(VISITS, body=LONG_BODY, asks=True))
    few = await _resume_ms(deployment, counting_loop(1, body=LONG_BODY, asks=True))
    name = f"resume with {VISITS * (LONG_BODY + 1):,} settled visits ÷ with 10"
    return at_most("9b", name, many / few, 3, note=f"{few:.0f} → {many:.0f} ms")


async def _resume_ms(deployment: Deployment, spec: Spec) -> float:
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"resume {time.time_ns()}", spec)
        return percentile([await _answer_ms(deployment, client, workflow_id) for _ in range(TIMES)], 0.5)


async def _answer_ms(deployment: Deployment, client: BenchClient, workflow_id: str) -> float:
    arguments = {"workflowId": workflow_id, "inputs": {"x": 0}, "mode": "SYNC", "timeoutMs": 60_000}
    run = (await client.execute(RUN_TO_QUESTION, input=arguments))["runWorkflow"]["run"]
    answer = {"runId": run["id"], "waitId": run["waitingFor"]["waitId"], "answer": True}
    async with _followed(deployment, run["id"]) as until_end:
        started_at = time.perf_counter()
        await client.execute(ANSWER, input=answer)
        await until_end()
        return (time.perf_counter() - started_at) * 1000


@asynccontextmanager
async def _followed(deployment: Deployment, run_id: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Subscribe to a run, and yield a function that waits for its end."""
    protocol = websockets.Subprotocol("graphql-transport-ws")
    async with connect(deployment.url.replace("http", "ws"), subprotocols=[protocol], proxy=None) as socket:
        await socket.send(orjson.dumps({"type": "connection_init"}).decode())
        payload = {"query": UPDATES, "variables": {"id": run_id}}
        await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
        while orjson.loads(await socket.recv())["type"] != "next":
            pass

        async def until_end() -> None:
            while orjson.loads(await socket.recv())["type"] != "complete":
                pass

        yield until_end


async def _maps(deployment: Deployment, url: str) -> list[Figure]:
    quick = {"type": "transform", "config": {"output": "{{ item + 1 }}"}}
    call = {"type": "http", "config": {"url": url}}
    quick_s = await _map_s(deployment, mapped(quick, 100), QUICK_ITEMS)
    http_s = await _map_s(deployment, mapped(call, 100), HTTP_ITEMS)
    bare_s = await asyncio.to_thread(measure_requests, url, HTTP_ITEMS)
    return [
        at_most("17", f"map of {QUICK_ITEMS:,} quick items, each", quick_s / QUICK_ITEMS * 1e6, 60, "µs"),
        at_most(
            "17", f"map of {HTTP_ITEMS:,} http items ÷ asyncio.gather", http_s / bare_s, 1.3, note=f"{http_s:.2f} s"
        ),
    ]


async def _map_s(deployment: Deployment, spec: Spec, count: int) -> float:
    durations = []
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"map {time.time_ns()}", spec)
        for _ in range(TIMES):
            started_at = time.perf_counter()
            await client.run(workflow_id, {"count": count})
            durations.append(time.perf_counter() - started_at)
    return percentile(durations, 0.5)
