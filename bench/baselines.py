"""The baselines A and B, each in its own process: `python -m bench.baselines a 5` prints JSON.

A is bare LangGraph in memory, without a checkpointer. B is LangGraph with its AsyncPostgresSaver,
`durability="sync"`, and ten runs at the same time. Both execute the chain of ten trivial nodes.
`mixed` is bare LangGraph with the graph of row 2b, and `requests` plain `asyncio.gather` for row 17.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.graphs import bare_chain, bare_mixed, visits_of_mixed

LENGTH = 10
CLIENTS_OF_A, CLIENTS_OF_B, CLIENTS_OF_MIXED = 16, 10, 8


@dataclass(frozen=True, slots=True)
class Baseline:
    """The result of a baseline.

    `cpu_ms_per_node` is that of the LangGraph process, without B's Postgres.
    """

    runs_per_s: float
    cpu_ms_per_node: float


def measure(name: str, seconds: float, url: str = "") -> Baseline:
    """Measure a baseline in another process.

    Args:
        name: `a`, `b`, `mixed` or `requests`.
        seconds: How long to measure; for `requests`, the number of calls.
        url: An empty database for `b`; the peer for `mixed` and `requests`.
    """
    command = [sys.executable, "-m", "bench.baselines", name, str(seconds), url]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
    return Baseline(**json.loads(result.stdout))


async def _load(execute_run: Callable[[int], Awaitable[object]], clients: int, seconds: float) -> Baseline:
    """Execute runs by `clients` parallel callers for `seconds`, after a warm-up."""
    for number in range(20):
        await execute_run(-number - 1)
    started_at, cpu_before, count = time.perf_counter(), time.process_time(), 0

    async def client() -> None:
        nonlocal count
        while time.perf_counter() - started_at < seconds:
            count += 1
            await execute_run(count)

    await asyncio.gather(*(client() for _ in range(clients)))
    duration, cpu = time.perf_counter() - started_at, time.process_time() - cpu_before
    return Baseline(count / duration, cpu / count / LENGTH * 1000)


async def _a(seconds: float) -> Baseline:
    graph = bare_chain(LENGTH)
    return await _load(lambda _: graph.ainvoke({"x": 0}), CLIENTS_OF_A, seconds)


async def _b(seconds: float, database_url: str) -> Baseline:
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool(database_url, max_size=CLIENTS_OF_B, kwargs=options, open=False) as pool:
        saver = AsyncPostgresSaver(pool)  # type: ignore[arg-type]
        await saver.setup()
        graph = bare_chain(LENGTH, saver)
        return await _load(
            lambda number: graph.ainvoke(
                {"x": 0}, {"configurable": {"thread_id": f"{time.time_ns()}-{number}"}}, durability="sync"
            ),
            CLIENTS_OF_B,
            seconds,
        )


def measure_mixed(url: str, seconds: float = 4.0) -> float:
    """Measure the mixed graph of row 2b in another process: CPU milliseconds per visit."""
    return measure("mixed", seconds, url).cpu_ms_per_node * LENGTH / visits_of_mixed()


def measure_requests(url: str, count: int) -> float:
    """Measure `asyncio.gather` of `count` http calls, 100 at the same time, in another process, in seconds."""
    return count / measure("requests", count, url).runs_per_s


async def _mixed(seconds: float, url: str) -> Baseline:
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def call() -> object:
            return (await client.get(url)).json()

        graph = bare_mixed(call)
        config: Any = {"recursion_limit": 1000}
        return await _load(lambda _: graph.ainvoke({"x": 0, "rounds": 0}, config), CLIENTS_OF_MIXED, seconds)


async def _requests(count: float, url: str) -> Baseline:
    """Make `count` http calls, five times, and return the median rate."""
    places, rates = asyncio.Semaphore(100), []
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def call() -> object:
            async with places:
                return (await client.get(url)).json()

        for _ in range(5):
            started_at = time.perf_counter()
            await asyncio.gather(*(call() for _ in range(int(count))))
            rates.append(count / (time.perf_counter() - started_at))
    return Baseline(sorted(rates)[2], 0.0)


async def _baseline(name: str, amount: float, url: str) -> Baseline:
    match name:
        case "a":
            return await _a(amount)
        case "b":
            return await _b(amount, url)
        case "mixed":
            return await _mixed(amount, url)
        case "requests":
            return await _requests(amount, url)
    raise SystemExit(f"no baseline named {name}: a, b, mixed or requests")


if __name__ == "__main__":
    baseline = asyncio.run(_baseline(sys.argv[1], float(sys.argv[2]), sys.argv[3]))
    print(json.dumps({"runs_per_s": baseline.runs_per_s, "cpu_ms_per_node": baseline.cpu_ms_per_node}))
