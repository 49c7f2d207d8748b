"""Rows 1, 2, 3 and 13: chains of ten trivial nodes, submitted over GraphQL by 16 clients, from acceptance to COMPLETED."""

import asyncio
import time
from dataclasses import dataclass

import asyncpg

from bench.baselines import LENGTH, Baseline, measure
from bench.client import Client
from bench.graphs import chain
from bench.measures import Figure, at_least, at_most, percentile, reported
from bench.processes import Deployment, deployed

CLIENTS = 16


@dataclass(frozen=True, slots=True)
class Load:
    runs: int
    seconds: float
    latencies: list[float]
    cpu: dict[str, float]
    """Seconds of CPU, by part, in these runs."""

    @property
    def runs_per_s(self) -> float:
        return self.runs / self.seconds

    def cpu_ms_per_node(self, *parts: str) -> float:
        return sum(self.cpu[part] for part in parts) / self.runs / LENGTH * 1000


async def load(deployment: Deployment, seconds: float, clients: int = CLIENTS) -> Load:
    async with Client(deployment.url) as first:
        workflow_id = await first.create(f"chain {time.time_ns()}", chain(LENGTH))
        for _ in range(20):
            await first.run(workflow_id, {"x": 1})
    latencies: list[float] = []
    before, began = deployment.cpu(), time.perf_counter()

    async def one() -> None:
        async with Client(deployment.url) as client:
            while (start := time.perf_counter()) - began < seconds:
                await client.run(workflow_id, {"x": 1})
                latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(one() for _ in range(clients)))
    took, after = time.perf_counter() - began, deployment.cpu()
    return Load(len(latencies), took, latencies, {part: after[part] - before[part] for part in after})


async def _stored_bytes(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        query = """SELECT sum(pg_total_relation_size(oid)) FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def _another(database_url: str) -> str:
    """The URL of a new, empty database beside ours."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE DATABASE bare")
    finally:
        await connection.close()
    return database_url.replace("/treadle?", "/bare?")


def measured(seconds: float = 10.0, *, is_quick: bool = False) -> list[Figure]:
    """A, then B, then ours with one worker, then A again: their mean, since the machine is noisy."""
    with deployed(workers=1) as deployment:
        first_a = measure("a", seconds / 2)
        stored = asyncio.run(_stored_bytes(deployment.database_url))
        ours = asyncio.run(load(deployment, seconds))
        grown = asyncio.run(_stored_bytes(deployment.database_url)) - stored
        b = None if is_quick else measure("b", seconds / 2, asyncio.run(_another(deployment.database_url)))
        second_a = measure("a", seconds / 2)
    a = Baseline(
        (first_a.runs_per_s + second_a.runs_per_s) / 2, (first_a.cpu_ms_per_node + second_a.cpu_ms_per_node) / 2
    )
    figures = [*_row_1(ours, a, b), *_row_2(ours, a)]
    if not is_quick:
        figures += [_row_13(grown, ours), *_row_3(ours, seconds)]
    return figures


def _row_1(ours: Load, a: Baseline, b: Baseline | None) -> list[Figure]:
    rate = ours.runs_per_s
    figures = [
        reported("1", "bare LangGraph in memory (A)", a.runs_per_s, "runs/s"),
        reported("1", "Treadle, one worker, 16 clients", rate, "runs/s"),
        reported("1", "  latency p50", percentile(ours.latencies, 0.5) * 1000, "ms"),
        reported("1", "  latency p99", percentile(ours.latencies, 0.99) * 1000, "ms"),
        at_least("1", "Treadle ÷ A", rate / a.runs_per_s, 0.35),
    ]
    if b is not None:
        figures.append(reported("1", "LangGraph with its Postgres saver (B)", b.runs_per_s, "runs/s"))
        figures.append(at_least("1", "Treadle ÷ B", rate / b.runs_per_s, 2.4))
    return figures


def _row_2(ours: Load, a: Baseline) -> list[Figure]:
    worker, every = ours.cpu_ms_per_node("worker"), ours.cpu_ms_per_node(*ours.cpu)
    parts = ", ".join(f"{part} {ours.cpu_ms_per_node(part):.2f}" for part in ours.cpu)
    return [
        reported("2", "CPU per node, A", a.cpu_ms_per_node, "ms"),
        at_most("2", "CPU per node, worker ÷ A", worker / a.cpu_ms_per_node, 2, note=f"{worker:.2f} ms"),
        at_most("2", "CPU per node, all processes ÷ A", every / a.cpu_ms_per_node, 4, note=f"ms: {parts}"),
    ]


def _row_3(one: Load, seconds: float) -> list[Figure]:
    with deployed(workers=2) as deployment:
        two = asyncio.run(load(deployment, seconds))
    busy = sum(two.cpu.values()) / two.seconds
    note = ", ".join(f"{part} {used / two.seconds * 100:.0f} %" for part, used in two.cpu.items())
    return [
        reported("3", "two workers", two.runs_per_s, "runs/s", note=f"{busy:.2f} cores busy: {note}"),
        reported("3", "two workers ÷ one", two.runs_per_s / one.runs_per_s, "×"),
    ]


def _row_13(grown: int, ours: Load) -> Figure:
    return at_most("13", "bytes stored per node", grown / (ours.runs + 20) / LENGTH, 2048, "B")
