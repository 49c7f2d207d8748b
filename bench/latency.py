"""Rows 4 to 7 and 14: how long one run takes on an idle system, when its events arrive, and how soon its code stops."""

import asyncio
import time
from datetime import datetime
from typing import Any

import asyncpg
from gql import Client as GraphQLClient
from gql import gql
from gql.transport.websockets import WebsocketsTransport

from bench.baselines import LENGTH
from bench.client import Client
from bench.graphs import chain
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import Deployment

EVENTS = """subscription ($id: ID!) { runEvents(runId: $id) {
  seq at ... on RunStatusChanged { status } ... on NodeStateChanged { nodeState { nodeId status } } } }"""
CANCEL = "mutation ($id: ID!) { cancelRun(input: {runId: $id}) { run { status } errors { code } } }"
READ = """query ($id: ID!) { run(id: $id) { createdAt
  events(first: 50) { nodes { at ... on NodeStateChanged { nodeState { startedAt } } } } } }"""
IDLE_S = 10.0


async def sync_chain(deployment: Deployment, count: int) -> list[Figure]:
    """Row 4: `runWorkflow(mode: SYNC)`, one at a time; and the transactions that it waits for."""
    async with Client(deployment.url) as client:
        workflow_id = await client.create(f"sync {time.time_ns()}", chain(LENGTH))
        for _ in range(10):
            await client.run(workflow_id, {"x": 1})
        before, took = await _commits(deployment), []
        for _ in range(count):
            began = time.perf_counter()
            await client.run(workflow_id, {"x": 1})
            took.append((time.perf_counter() - began) * 1000)
        commits = (await _commits(deployment) - before) / count
    return [
        at_most("4", "SYNC chain of 10, idle: p50", percentile(took, 0.5), 20, "ms"),
        at_most("4", "  p99", percentile(took, 0.99), 50, "ms"),
        reported("4", "  a commit alone", await _commit_ms(deployment), "ms"),
        at_most(
            "4", "  writing transactions a run", commits, 14, "", "transaction numbers used, accept and claim included"
        ),
    ]


async def _commits(deployment: Deployment) -> float:
    """Transactions that have written: those that were given a number."""
    connection = await asyncpg.connect(deployment.database_url)
    try:
        return float(await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))
    finally:
        await connection.close()


async def _commit_ms(deployment: Deployment) -> float:
    connection = await asyncpg.connect(deployment.database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS bench_commit (n int)")
        took = []
        for _ in range(50):
            began = time.perf_counter()
            await connection.execute("INSERT INTO bench_commit VALUES (1)")
            took.append((time.perf_counter() - began) * 1000)
        await connection.execute("DROP TABLE bench_commit")
        return percentile(took, 0.5)
    finally:
        await connection.close()


async def first_node(deployment: Deployment, count: int) -> list[Figure]:
    """Row 5: from the acceptance of a run to the start of its first node, by the stored moments; and an idle system's CPU."""
    waited = []
    async with Client(deployment.url) as client:
        workflow_id = await client.create(f"first {time.time_ns()}", chain(1))
        for _ in range(count):
            run = await client.run(workflow_id, {"x": 1})
            stored = (await client.ask(READ, id=run["id"]))["run"]
            started = min(
                one["nodeState"]["startedAt"] for one in stored["events"]["nodes"] if one.get("nodeState") is not None
            )
            waited.append((_moment(started) - _moment(stored["createdAt"])) * 1000)
    before = deployment.cpu()
    await asyncio.sleep(IDLE_S)
    after = deployment.cpu()
    used = {part: (after[part] - before[part]) / IDLE_S * 100 for part in after}
    note = ", ".join(f"{part} {share:.1f}" for part, share in used.items())
    return [
        at_most("5", "accepted → first node started: p50", percentile(waited, 0.5), 10, "ms"),
        at_most("5", "idle CPU of the whole system", sum(used.values()), 5, "%", f"of a core: {note}"),
    ]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def delivery(deployment: Deployment, count: int, row: str, bounds: tuple[float, float]) -> list[Figure]:
    """Row 6: from a node's end, by the worker's clock, to the subscriber that has it, by ours: it is one machine."""
    took: list[float] = []
    transport = WebsocketsTransport(
        url=deployment.url.replace("http", "ws"), subprotocols=["graphql-transport-ws"], connect_args={"proxy": None}
    )
    spec = {"nodes": [{"id": "c", "type": "code", "config": {"code": "def process():\n    return 1\n"}}], "edges": []}
    async with Client(deployment.url) as client, GraphQLClient(transport=transport) as session:
        workflow_id = await client.create(f"delivery {time.time_ns()}", spec)
        for _ in range(count):
            run = await client.run(workflow_id, {}, "ASYNC")
            query = gql(EVENTS)
            query.variable_values = {"id": run["id"]}
            async for answer in session.subscribe(query):
                event, now = answer["runEvents"], time.time()
                state = event.get("nodeState")
                if state is not None and state["status"] == "COMPLETED":
                    took.append((now - _moment(event["at"])) * 1000)
    return [
        at_most(row, f"node finished → subscriber, {name}: p50", percentile(took, 0.5), bounds[0], "ms")
        for name in [row.partition(" ")[2] or "idle"]
    ] + [at_most(row, "  p99", percentile(took, 0.99), bounds[1], "ms")]


async def stopping(deployment: Deployment, count: int) -> list[Figure]:
    """Row 7: from the call to the moment that the run says CANCELLED, which it says when its code has stopped."""
    async_node: dict[str, Any] = {"id": "n", "type": "delay", "config": {"seconds": 4}}
    endless = "def process():\n    while True:\n        pass\n"
    sandboxed = {"id": "n", "type": "code", "config": {"code": endless, "timeoutS": 60}}
    figures = []
    for name, node, p50, p99 in (("async node", async_node, 10, 40), ("sandboxed loop", sandboxed, 20, 80)):
        took = await _stops(deployment, {"nodes": [node], "edges": []}, count)
        figures += [
            at_most("7", f"cancelRun → code stopped, {name}: p50", percentile(took, 0.5), p50, "ms"),
            at_most("7", "  p99", percentile(took, 0.99), p99, "ms"),
        ]
    return figures


async def _stops(deployment: Deployment, spec: Any, count: int) -> list[float]:
    took = []
    transport = WebsocketsTransport(
        url=deployment.url.replace("http", "ws"), subprotocols=["graphql-transport-ws"], connect_args={"proxy": None}
    )
    async with Client(deployment.url) as client, GraphQLClient(transport=transport) as session:
        workflow_id = await client.create(f"stop {time.time_ns()}", spec)
        for _ in range(count):
            run = await client.run(workflow_id, {}, "ASYNC")
            query, began = gql(EVENTS), 0.0
            query.variable_values = {"id": run["id"]}
            async for answer in session.subscribe(query):
                event = answer["runEvents"]
                state = event.get("nodeState")
                if began == 0.0 and state is not None and state["status"] in ("RUNNING", "WAITING"):
                    began = time.time()
                    await client.ask(CANCEL, id=run["id"])
                elif event.get("status") == "CANCELLED":
                    took.append((_moment(event["at"]) - began) * 1000)
    return took


async def branches(deployment: Deployment) -> list[Figure]:
    """Row 14: two branches of three waiting nodes beside each other, against the longer one alone."""
    long, short = (0.5, 0.3, 0.4), (0.2, 0.6, 0.1)
    async with Client(deployment.url) as client:
        alone = await client.create(f"alone {time.time_ns()}", _waits(long))
        both = await client.create(f"both {time.time_ns()}", _waits(long, short))
        took = []
        for workflow_id in (alone, both, alone, both):
            began = time.perf_counter()
            await client.run(workflow_id, {})
            took.append(time.perf_counter() - began)
    return [at_most("14", "two branches ÷ the longer alone", (took[1] + took[3]) / (took[0] + took[2]), 1.05)]


def _waits(*branches: tuple[float, ...]) -> Any:
    nodes, edges = [], []
    for branch, waits in enumerate(branches):
        for place, seconds in enumerate(waits):
            nodes.append({"id": f"b{branch}_{place}", "type": "delay", "config": {"seconds": seconds}})
            if place:
                edges.append({"source": f"b{branch}_{place - 1}", "target": f"b{branch}_{place}"})
    return {"nodes": nodes, "edges": edges}
