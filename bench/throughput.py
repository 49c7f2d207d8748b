"""Rows 1, 2, 3, 13 and 18: clients run chains of ten trivial nodes over GraphQL."""

import asyncio
import time
from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from bench.baselines import LENGTH, Baseline, measure
from bench.client import BenchClient
from bench.graphs import chain
from bench.measures import Figure, at_least, at_most, percentile, reported
from bench.processes import Deployment, deployed
from persistence.events.publisher import ENDED_TTL_S

CLIENTS, MANY_CLIENTS = 16, 64
STEADY_RATE = 200
"""Runs per second of row 18."""
QUICK_SLACK = 2.5
"""How far the ratios to A may be from their targets in CI, whose clients and stores share two cores."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of a load.

    `latencies` are in seconds; `cpu` is the CPU time in seconds, by part.
    """

    runs: int
    seconds: float
    latencies: list[float]
    cpu: dict[str, float]

    @property
    def runs_per_s(self) -> float:
        return self.runs / self.seconds

    def cpu_ms_per_node(self, *parts: str) -> float:
        return sum(self.cpu[part] for part in parts) / self.runs / LENGTH * 1000


async def load(deployment: Deployment, seconds: float, clients: int = CLIENTS) -> LoadResult:
    """Run a load for `seconds` after a warm-up."""
    async with BenchClient(deployment.url) as first:
        workflow_id = await first.create(f"chain {time.time_ns()}", chain(LENGTH))
        for _ in range(20):
            await first.run(workflow_id, {"x": 1})
    latencies: list[float] = []
    before, started_at = deployment.cpu(), time.perf_counter()

    async def run_client() -> None:
        async with BenchClient(deployment.url) as client:
            while (start := time.perf_counter()) - started_at < seconds:
                await client.run(workflow_id, {"x": 1})
                latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(run_client() for _ in range(clients)))
    duration, after = time.perf_counter() - started_at, deployment.cpu()
    return LoadResult(len(latencies), duration, latencies, {part: after[part] - before[part] for part in after})


async def _stored_bytes(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        query = """SELECT sum(pg_total_relation_size(oid)) FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def _redis_bytes(redis_url: str) -> int:
    async with Redis.from_url(redis_url) as redis:
        return int((await redis.info("memory"))["used_memory"])


async def _empty_database(database_url: str) -> str:
    """Create an empty database on the same server, and return its URL."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CREATE DATABASE bare")
    finally:
        await connection.close()
    return database_url.replace("/treadle?", "/bare?")


def throughput(seconds: float = 10.0, *, is_quick: bool = False) -> list[Figure]:
    """Measure A, Treadle with one worker, B, and A again.

    A's result is the mean, to reduce noise.
    """
    with deployed(workers=1) as deployment:
        first_a = measure("a", seconds / 2)
        stored = asyncio.run(_stored_bytes(deployment.database_url))
        ours = asyncio.run(load(deployment, seconds))
        grown = asyncio.run(_stored_bytes(deployment.database_url)) - stored
        memory = asyncio.run(_redis_bytes(deployment.redis_url))
        full = None if is_quick else asyncio.run(load(deployment, seconds, MANY_CLIENTS))
        memory = asyncio.run(_redis_bytes(deployment.redis_url)) - memory
        b = None if is_quick else measure("b", seconds / 2, asyncio.run(_empty_database(deployment.database_url)))
        second_a = measure("a", seconds / 2)
    a = Baseline(
        (first_a.runs_per_s + second_a.runs_per_s) / 2, (first_a.cpu_ms_per_node + second_a.cpu_ms_per_node) / 2
    )
    figures = [*_row_1(ours, a, b), *_row_2(ours, a)]
    if full is not None and b is not None:
        figures += [*_row_1b(full, a, b), _row_18(memory, full)]
        figures += [_row_13(grown, ours), *_row_3(ours, seconds)]
    return figures


def _row_1(ours: LoadResult, a: Baseline, b: Baseline | None) -> list[Figure]:
    rate = ours.runs_per_s
    figures = [
        reported("1", "bare LangGraph in memory (A)", a.runs_per_s, "runs/s"),
        reported("1", "Treadle, one worker, 16 clients", rate, "runs/s"),
        reported("1", "  latency p50", percentile(ours.latencies, 0.5) * 1000, "ms"),
        reported("1", "  latency p99", percentile(ours.latencies, 0.99) * 1000, "ms"),
        at_least("1", "Treadle ÷ A", rate / a.runs_per_s, 0.85, slack=QUICK_SLACK),
    ]
    if b is not None:
        figures.append(reported("1", "LangGraph with its Postgres saver (B)", b.runs_per_s, "runs/s"))
        figures.append(at_least("1", "Treadle ÷ B", rate / b.runs_per_s, 2.4))
    return figures


def _row_1b(full: LoadResult, a: Baseline, b: Baseline) -> list[Figure]:
    rate = full.runs_per_s
    return [
        at_least("1b", f"the same with {MANY_CLIENTS} clients ÷ A", rate / a.runs_per_s, 1, note=f"{rate:.0f} runs/s"),
        at_least("1b", f"the same with {MANY_CLIENTS} clients ÷ B", rate / b.runs_per_s, 7),
    ]


def _row_18(grown: int, full: LoadResult) -> Figure:
    """Compute the memory of Redis at a steady rate from that of a run, whose stream expires after its end."""
    each = grown / (full.runs + 20)
    steady = each * STEADY_RATE * ENDED_TTL_S / 2**20
    name = f"Redis memory at a steady {STEADY_RATE} runs/s"
    return at_most("18", name, steady, 200, "MB", f"{each / 1024:.1f} KB a run, kept for {ENDED_TTL_S} s")


def _row_2(ours: LoadResult, a: Baseline) -> list[Figure]:
    worker, every = ours.cpu_ms_per_node("worker"), ours.cpu_ms_per_node(*ours.cpu)
    parts = ", ".join(f"{part} {ours.cpu_ms_per_node(part):.2f}" for part in ours.cpu)
    return [
        reported("2", "CPU per node, A", a.cpu_ms_per_node, "ms"),
        at_most("2", "CPU per node, worker ÷ A", worker / a.cpu_ms_per_node, 0.65, note=f"{worker:.2f} ms"),
        at_most(
            "2",
            "CPU per node, all processes ÷ A",
            every / a.cpu_ms_per_node,
            1.5,
            note=f"ms: {parts}",
            slack=QUICK_SLACK,
        ),
    ]


def _row_3(one: LoadResult, seconds: float) -> list[Figure]:
    with deployed(workers=2) as deployment:
        two = asyncio.run(load(deployment, seconds))
    busy = sum(two.cpu.values()) / two.seconds
    note = ", ".join(f"{part} {used / two.seconds * 100:.0f} %" for part, used in two.cpu.items())
    return [
        reported("3", "two workers", two.runs_per_s, "runs/s", note=f"{busy:.2f} cores busy: {note}"),
        reported("3", "two workers ÷ one", two.runs_per_s / one.runs_per_s, "×"),
    ]


def _row_13(grown: int, ours: LoadResult) -> Figure:
    return at_most("13", "bytes stored per node", grown / (ours.runs + 20) / LENGTH, 800, "B")
