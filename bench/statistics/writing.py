"""Row 21: the cost of the statistics for each run."""

import asyncio
from typing import Any

import asyncpg

from bench.measures import Figure, at_most, percentile
from bench.processes import Deployment
from bench.throughput import load

ROUNDS, ROUND_S = 6, 5.0
SETTLE_S = 4.0
"""The worker folds at least every three seconds."""


async def writing(deployment: Deployment) -> list[Figure]:
    """Measure the CPU time of a run with the statistics ÷ without them, by turns: A B B A A B …"""
    connection = await asyncpg.connect(deployment.database_url)
    costs: dict[bool, list[float]] = {True: [], False: []}
    try:
        for number in range(ROUNDS * 2):
            counts = number % 4 in (0, 3)
            await connection.execute(f"ALTER TABLE runs {'ENABLE' if counts else 'DISABLE'} TRIGGER record_run_end")
            costs[counts].append(await _cost(deployment, connection))
    finally:
        await connection.close()
    with_, without = (percentile(costs[counts], 0.5) for counts in (True, False))
    note = f"{without:.2f} → {with_:.2f} ms of CPU, all processes, {ROUNDS} pairs of {ROUND_S:g} s"
    return [at_most("21", "a run with statistics ÷ without", with_ / without, 1.03, note=note)]


async def _cost(deployment: Deployment, connection: Any) -> float:
    """Return the CPU time of a run in milliseconds, its folding included."""
    before = deployment.cpu()
    result = await load(deployment, ROUND_S)
    await asyncio.sleep(SETTLE_S)  # The same time with and without, because an idle process needs CPU too.
    assert not await connection.fetchval("SELECT EXISTS (SELECT FROM run_ends)")
    after = deployment.cpu()
    return sum(after[part] - before[part] for part in after) / (result.runs + 20) * 1000
