"""The baselines A and B, each in its own process: `python -m bench.baselines a 5` prints JSON.

A is bare LangGraph in memory, without a checkpointer. B is LangGraph with its AsyncPostgresSaver,
`durability="sync"`, and ten runs at the same time. Both execute the chain of ten trivial nodes.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.graphs import bare_chain

LENGTH = 10
CLIENTS_OF_A, CLIENTS_OF_B = 16, 10


@dataclass(frozen=True, slots=True)
class Baseline:
    """The result of a baseline.

    `cpu_ms_per_node` is that of the LangGraph process, without B's Postgres.
    """

    runs_per_s: float
    cpu_ms_per_node: float


def measure(name: str, seconds: float, database_url: str = "") -> Baseline:
    """Measure a baseline in another process.

    Args:
        name: `a` or `b`.
        database_url: An empty database for `b`.
    """
    command = [sys.executable, "-m", "bench.baselines", name, str(seconds), database_url]
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


if __name__ == "__main__":
    name, seconds, url = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    baseline = asyncio.run(_a(seconds) if name == "a" else _b(seconds, url))
    print(json.dumps({"runs_per_s": baseline.runs_per_s, "cpu_ms_per_node": baseline.cpu_ms_per_node}))
