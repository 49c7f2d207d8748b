"""Rows 4 to 7 and 14: latency of one run on an idle system, of its events, and of a cancel."""

import asyncio
import time
from datetime import datetime
from typing import Any

import asyncpg
from gql import Client as GraphQLClient
from gql import gql
from gql.transport.websockets import WebsocketsTransport

from bench.baselines import LENGTH
from bench.client import BenchClient
from bench.graphs import chain
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import Deployment

EVENTS = """subscription ($id: ID!) { runEvents(runId: $id) {
  seq at ... on RunStatusChanged { status } ... on NodeStateChanged { nodeState { nodeId status } } } }"""
CANCEL = "mutation ($id: ID!) { cancelRun(input: {runId: $id}) { run { status } errors { code } } }"
READ = """query ($id: ID!) { run(id: $id) { createdAt
  events(first: 50) { nodes { at ... on NodeStateChanged { nodeState { startedAt } } } } } }"""
IDLE_S = 10.0
QUICK_SLACK = 5
"""How far times may be from their targets in CI: they depend on the machine, and on its other work."""


async def sync_chain(deployment: Deployment, count: int) -> list[Figure]:
    """Measure row 4: `runWorkflow(mode: SYNC)`, one run at a time, and its transactions."""
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"sync {time.time_ns()}", chain(LENGTH))
        for _ in range(10):
            await client.run(workflow_id, {"x": 1})
        before, durations = await _commits(deployment), []
        for _ in range(count):
            started_at = time.perf_counter()
            await client.run(workflow_id, {"x": 1})
            durations.append((time.perf_counter() - started_at) * 1000)
        commits = (await _commits(deployment) - before) / count
    return [
        at_most("4", "SYNC chain of 10, idle: p50", percentile(durations, 0.5), 5, "ms", slack=QUICK_SLACK),
        at_most("4", "  p99", percentile(durations, 0.99), 8, "ms", slack=QUICK_SLACK),
        reported("4", "  one commit in Postgres", await _commit_ms(deployment), "ms"),
        at_most(
            "4", "  writing transactions per run", commits, 14, "", "transaction ids used, including accept and claim"
        ),
    ]


async def _commits(deployment: Deployment) -> float:
    """Return the number of writing transactions so far: only they get a transaction id."""
    connection = await asyncpg.connect(deployment.database_url)
    try:
        return float(await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))
    finally:
        await connection.close()


async def _commit_ms(deployment: Deployment) -> float:
    """Return the median duration of an INSERT with its commit, in milliseconds."""
    connection = await asyncpg.connect(deployment.database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS bench_commit (n int)")
        durations = []
        for _ in range(50):
            started_at = time.perf_counter()
            await connection.execute("INSERT INTO bench_commit VALUES (1)")
            durations.append((time.perf_counter() - started_at) * 1000)
        await connection.execute("DROP TABLE bench_commit")
        return percentile(durations, 0.5)
    finally:
        await connection.close()


async def first_node(deployment: Deployment, count: int) -> list[Figure]:
    """Measure row 5: the time from accepting a run to its first node (as stored), and idle CPU."""
    delays = []
    async with BenchClient(deployment.url) as client:
        workflow_id = await client.create(f"first {time.time_ns()}", chain(1))
        for _ in range(count):
            run = await client.run(workflow_id, {"x": 1})
            stored = (await client.execute(READ, id=run["id"]))["run"]
            started = min(
                one["nodeState"]["startedAt"] for one in stored["events"]["nodes"] if one.get("nodeState") is not None
            )
            delays.append((_timestamp(started) - _timestamp(stored["createdAt"])) * 1000)
    before = deployment.cpu()
    await asyncio.sleep(IDLE_S)
    after = deployment.cpu()
    used = {part: (after[part] - before[part]) / IDLE_S * 100 for part in after}
    note = ", ".join(f"{part} {share:.1f}" for part, share in used.items())
    return [
        at_most("5", "run accepted → first node started: p50", percentile(delays, 0.5), 10, "ms"),
        at_most("5", "idle CPU of the whole system", sum(used.values()), 5, "%", f"of a core: {note}"),
    ]


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def delivery(deployment: Deployment, count: int, row: str, bounds: tuple[float, float]) -> list[Figure]:
    """Measure row 6: the time from a node's end to the subscriber that receives it.

    The times are those of the worker and of this process, which run on the same machine.
    """
    durations: list[float] = []
    transport = WebsocketsTransport(
        url=deployment.url.replace("http", "ws"), subprotocols=["graphql-transport-ws"], connect_args={"proxy": None}
    )
    spec = {"nodes": [{"id": "c", "type": "code", "config": {"code": "def process():\n    return 1\n"}}], "edges": []}
    async with BenchClient(deployment.url) as client, GraphQLClient(transport=transport) as session:
        workflow_id = await client.create(f"delivery {time.time_ns()}", spec)
        for _ in range(count):
            run = await client.run(workflow_id, {}, "ASYNC")
            query = gql(EVENTS)
            query.variable_values = {"id": run["id"]}
            async for update in session.subscribe(query):
                event, now = update["runEvents"], time.time()
                state = event.get("nodeState")
                if state is not None and state["status"] == "COMPLETED":
                    durations.append((now - _timestamp(event["at"])) * 1000)
    return [
        at_most(row, f"node finished → subscriber, {name}: p50", percentile(durations, 0.5), bounds[0], "ms")
        for name in [row.partition(" ")[2] or "idle"]
    ] + [at_most(row, "  p99", percentile(durations, 0.99), bounds[1], "ms")]


async def stopping(deployment: Deployment, count: int) -> list[Figure]:
    """Measure row 7: the time from `cancelRun` to the event CANCELLED, when the code has ended."""
    async_node: dict[str, Any] = {"id": "n", "type": "delay", "config": {"seconds": 4}}
    endless = "def process():\n    while True:\n        pass\n"
    sandboxed = {"id": "n", "type": "code", "config": {"code": endless, "timeoutS": 60}}
    figures = []
    for name, node, p50, p99 in (("async node", async_node, 5, 20), ("sandboxed loop", sandboxed, 20, 80)):
        durations = await _cancel_durations(deployment, {"nodes": [node], "edges": []}, count)
        figures += [
            at_most(
                "7", f"cancelRun → code stopped, {name}: p50", percentile(durations, 0.5), p50, "ms", slack=QUICK_SLACK
            ),
            at_most("7", "  p99", percentile(durations, 0.99), p99, "ms", slack=QUICK_SLACK),
        ]
    return figures


async def _cancel_durations(deployment: Deployment, spec: Any, count: int) -> list[float]:
    durations = []
    transport = WebsocketsTransport(
        url=deployment.url.replace("http", "ws"), subprotocols=["graphql-transport-ws"], connect_args={"proxy": None}
    )
    async with BenchClient(deployment.url) as client, GraphQLClient(transport=transport) as session:
        workflow_id = await client.create(f"stop {time.time_ns()}", spec)
        for _ in range(count):
            run = await client.run(workflow_id, {}, "ASYNC")
            query, cancelled_at = gql(EVENTS), 0.0
            query.variable_values = {"id": run["id"]}
            async for update in session.subscribe(query):
                event = update["runEvents"]
                state = event.get("nodeState")
                if cancelled_at == 0.0 and state is not None and state["status"] in ("RUNNING", "WAITING"):
                    cancelled_at = time.time()
                    await client.execute(CANCEL, id=run["id"])
                elif event.get("status") == "CANCELLED":
                    durations.append((_timestamp(event["at"]) - cancelled_at) * 1000)
    return durations


async def branches(deployment: Deployment) -> list[Figure]:
    """Measure row 14: two parallel branches of three waiting nodes, and the longer branch only."""
    long, short = (0.5, 0.3, 0.4), (0.2, 0.6, 0.1)
    async with BenchClient(deployment.url) as client:
        longer = await client.create(f"longer {time.time_ns()}", _waits(long))
        both = await client.create(f"both {time.time_ns()}", _waits(long, short))
        durations = []
        for workflow_id in (longer, both, longer, both):
            started_at = time.perf_counter()
            await client.run(workflow_id, {})
            durations.append(time.perf_counter() - started_at)
    return [
        at_most(
            "14",
            "two branches ÷ the longer branch",
            (durations[1] + durations[3]) / (durations[0] + durations[2]),
            1.05,
        )
    ]


def _waits(*branches: tuple[float, ...]) -> Any:
    nodes, edges = [], []
    for branch, waits in enumerate(branches):
        for index, seconds in enumerate(waits):
            nodes.append({"id": f"b{branch}_{index}", "type": "delay", "config": {"seconds": seconds}})
            if index:
                edges.append({"source": f"b{branch}_{index - 1}", "target": f"b{branch}_{index}"})
    return {"nodes": nodes, "edges": edges}
