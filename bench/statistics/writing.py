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
    """Measure the CPU time of a run with the statistics ÷ without them, by turns"""
    connection = await asyncpg.connect(deployment.database_url)
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    try:
        for number in range(ROUNDS):
            costs = {}
            for counts in (True, False) if number % 2 else (False, True):
                await connection.execute(f"ALTER TABLE runs {'ENABLE' if counts else 'DISABLE'} TRIGGER record_run_end")
                costs[counts] = await _cost(deployment, connection)
            pairs.append((costs[True], costs[False]))
    finally:
        await connection.close()
    ratios = [sum(with_.values()) / sum(without.values()) for with_, without in pairs]
    parts = ", ".join(
        f"{part} {percentile([with_[part] - without[part] for with_, without in pairs], 0.5) * 1000:+.0f}"
        for part in pairs[0][0]
    )
    note = f"{min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} pairs of {ROUND_S:g} s; µs of CPU a run: {parts}"
    return [at_most("21", "a run with statistics ÷ without, median", percentile(ratios, 0.5), 1.03, note=note)]


async def _cost(deployment: Deployment, connection: Any) -> dict[str, float]:
    """Return the CPU time of a run in milliseconds by part, its folding included."""
    before = deployment.cpu()
    result = await load(deployment, ROUND_S)
    await asyncio.sleep(SETTLE_S)  # The same time with and without, because an idle process needs CPU too.
    assert not await connection.fetchval("SELECT EXISTS (SELECT FROM run_ends)")
    after = deployment.cpu()
    return {part: (after[part] - before[part]) / (result.runs + 20) * 1000 for part in after}
