"""Rows 8 and 9: compiling, and what a node costs in a graph of 1,000 against one of 10. In this process, no API between."""

import asyncio
import time
from typing import Any

from bench.client import Client
from bench.graphs import Spec, bare_chain, chain, grid
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import Deployment
from engine.graph.compiler import GraphCache, compile_spec
from engine.nodes.registry import load_node_types
from engine.spec.parser import parse

BIG = 1000
TIMES = 5


def compiling() -> list[Figure]:
    types, spec = load_node_types(), parse(chain(BIG))
    ours = _median_ms(lambda: compile_spec(spec, types))
    bare = _median_ms(lambda: bare_chain(BIG))
    cache = GraphCache(types, None)
    cache.get("hash", chain(BIG))
    again = _median_ms(lambda: cache.get("hash", None))
    return [
        reported("8", "compile 1,000 nodes, bare LangGraph", bare, "ms"),
        at_most("8", "compile 1,000 nodes ÷ bare LangGraph", ours / bare, 1.5, note=f"{ours:.0f} ms"),
        at_most("8", "again, from the cache", again, 1, "ms"),
    ]


def _median_ms(work: Any) -> float:
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return percentile(took, 0.5)


async def sizes(deployment: Deployment) -> list[Figure]:
    """CPU of all processes per node, since waiting tells nothing of cost."""
    async with Client(deployment.url) as client:
        small = await _cpu_ms_per_node(deployment, client, chain(10), 100)
        long = await _cpu_ms_per_node(deployment, client, chain(BIG), 3)
        wide = await _cpu_ms_per_node(deployment, client, grid(30, 33), 3)
    return [
        reported("9", "CPU per node, chain of 10", small, "ms"),
        at_most("9", "CPU per node, chain of 1,000 ÷ 10", long / small, 1.5, note=f"{long:.2f} ms"),
        at_most("9", "CPU per node, 30 × 33 ÷ chain of 10", wide / small, 1.5, note=f"{wide:.2f} ms"),
    ]


async def _cpu_ms_per_node(deployment: Deployment, client: Client, spec: Spec, count: int) -> float:
    workflow_id = await client.create(f"size {time.time_ns()}", spec)
    await client.run(workflow_id, {"x": 1})
    before = sum(deployment.cpu().values())
    for _ in range(count):
        await client.run(workflow_id, {"x": 1})
    await asyncio.sleep(0.1)
    return (sum(deployment.cpu().values()) - before) / count / len(spec["nodes"]) * 1000
