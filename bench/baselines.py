"""The baselines, each in a process of its own: `python -m bench.baselines a 5` prints one line of JSON.

A: bare LangGraph in memory, without a checkpointer. B: LangGraph with its own AsyncPostgresSaver, `durability="sync"`,
ten runs at once. Both run the chain of ten trivial nodes.
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
    runs_per_s: float
    cpu_ms_per_node: float
    """Of the one process that runs LangGraph; what B's Postgres uses is not in it."""


def measure(name: str, seconds: float, database_url: str = "") -> Baseline:
    """`name` is a or b; b needs a database of its own."""
    command = [sys.executable, "-m", "bench.baselines", name, str(seconds), database_url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60)
    return Baseline(**json.loads(done.stdout))


async def _load(one: Callable[[int], Awaitable[object]], clients: int, seconds: float) -> Baseline:
    """`clients` callers, each again and again for `seconds`, after a warm-up."""
    for number in range(20):
        await one(-number - 1)
    began, used, count = time.perf_counter(), time.process_time(), 0

    async def client() -> None:
        nonlocal count
        while time.perf_counter() - began < seconds:
            count += 1
            await one(count)

    await asyncio.gather(*(client() for _ in range(clients)))
    took, cpu = time.perf_counter() - began, time.process_time() - used
    return Baseline(count / took, cpu / count / LENGTH * 1000)


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
    which, seconds, url = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    found = asyncio.run(_a(seconds) if which == "a" else _b(seconds, url))
    print(json.dumps({"runs_per_s": found.runs_per_s, "cpu_ms_per_node": found.cpu_ms_per_node}))
