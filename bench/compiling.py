"""Rows 8 and 9: compile time in this process, and CPU per node in graphs of 10 and 1,000 nodes."""

import asyncio
import time
from typing import Any

from bench.client import BenchClient
from bench.graphs import Spec, bare_chain, chain, grid
from bench.measures import Figure, at_most, percentile, reported
from bench.processes import Deployment
from engine.graph.compiler import GraphCache, compile_spec
from engine.nodes.registry import load_node_types
from engine.spec.parser import parse

BIG = 1000
TIMES = 5


def compiling() -> list[Figure]:
    """Measure row 8: compiling 1,000 nodes, compared with bare LangGraph, and a cache hit."""
    types, spec = load_node_types(), parse(chain(BIG))
    ours = _median_ms(lambda: compile_spec(spec, types))
    bare = _median_ms(lambda: bare_chain(BIG))
    cache = GraphCache(types, None)
    cache.get("hash", chain(BIG))
    cached = _median_ms(lambda: cache.get("hash", None))
    return [
        reported("8", "compile 1,000 nodes, bare LangGraph", bare, "ms"),
        at_most("8", "compile 1,000 nodes ÷ bare LangGraph", ours / bare, 1.5, note=f"{ours:.0f} ms"),
        at_most("8", "compile 1,000 nodes, cached", cached, 1, "ms"),
    ]


def _median_ms(work: Any) -> float:
    durations = []
    for _ in range(TIMES):
        started_at = time.perf_counter()
        work()
        durations.append((time.perf_counter() - started_at) * 1000)
    return percentile(durations, 0.5)


async def sizes(deployment: Deployment) -> list[Figure]:
    """Measure row 9: the CPU time of all processes per node; durations would include waiting."""
    async with BenchClient(deployment.url) as client:
        small = await _cpu_ms_per_node(deployment, client, chain(10), 100)
        long = await _cpu_ms_per_node(deployment, client, chain(BIG), 3)
        wide = await _cpu_ms_per_node(deployment, client, grid(30, 33), 3)
    return [
        reported("9", "CPU per node, chain of 10", small, "ms"),
        at_most("9", "CPU per node, chain of 1,000 ÷ 10", long / small, 1.5, note=f"{long:.2f} ms"),
        at_most("9", "CPU per node, 30 × 33 ÷ chain of 10", wide / small, 1.5, note=f"{wide:.2f} ms"),
    ]


async def _cpu_ms_per_node(deployment: Deployment, client: BenchClient, spec: Spec, count: int) -> float:
    workflow_id = await client.create(f"size {time.time_ns()}", spec)
    await client.run(workflow_id, {"x": 1})
    before = sum(deployment.cpu().values())
    for _ in range(count):
        await client.run(workflow_id, {"x": 1})
    await asyncio.sleep(0.1)
    return (sum(deployment.cpu().values()) - before) / count / len(spec["nodes"]) * 1000
