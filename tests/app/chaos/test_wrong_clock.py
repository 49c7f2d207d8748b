"""A process of the chaos suite whose clock is wrong."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from app.chaos import execution_log, nodes, workflows, wrong_clock
from app.chaos.workflows import ChaosCase
from tests.clean_databases import CleanDatabases
from tests.end_to_end.support.system import SystemUnderTest, running
from tests.paths import ROOT

READ = """
import json, sys, time
from datetime import UTC, datetime
from engine.runtime import waits
from persistence.db import clock_skew
from app.chaos import nodes, wrong_clock  # last, as in a worker
real = wrong_clock.real_time()
now = [module.datetime.now(UTC) for module in (waits, clock_skew)]
assert isinstance(datetime.now(UTC), waits.datetime) and type(now[0]) is datetime
json.dump([*(at.timestamp() - real for at in now), time.time() - real, time.time_ns() / 1e9 - real], sys.stdout)
"""


@pytest.mark.parametrize("offset_s", [-7200, 0, 45])
def test_every_reading_of_the_time_of_day_is_off_by_the_offset(monkeypatch: pytest.MonkeyPatch, offset_s: int) -> None:
    monkeypatch.setenv(wrong_clock.OFFSET_S, str(offset_s))
    result = subprocess.run([sys.executable, "-c", READ], cwd=ROOT, capture_output=True, text=True, check=True)
    differences = [round(float(text)) for text in result.stdout.strip("[]").split(",")]
    assert differences == [offset_s] * 4


WAITING: dict[Callable[[Random], ChaosCase], float] = {
    workflows._nap: 1.0,
    workflows._sleep: 7.0,
    workflows._long_backoff: 5.5,
    workflows._expired: 1.0,
    workflows._map_of_nodes: 0.3,
}
"""Workflows that wait for a time, and the least time that each of them takes, in seconds."""


async def check(system: SystemUnderTest, make: Callable[[Random], ChaosCase], least_s: float) -> None:
    case, started_at = make(Random(1)), time.monotonic()
    run = (await system.run(case.spec, case.inputs, timeoutMs=55_000))["run"]
    assert case.accepts(run["status"], run["output"]), run
    assert time.monotonic() - started_at >= least_s


async def test_a_worker_with_a_wrong_clock_waits_neither_shorter_nor_longer(
    clean_databases: CleanDatabases, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "records").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(nodes.install(tmp_path)))
    monkeypatch.setenv(execution_log.FOLDER, str(tmp_path / "records"))
    began = time.time()
    async with AsyncExitStack() as stack:
        systems = []
        for offset_s in (-7200, 7200):  # At once, because most of the time is waiting.
            monkeypatch.setenv(wrong_clock.OFFSET_S, str(offset_s))
            database_url = await stack.enter_async_context(clean_databases.clean())
            system = running(database_url, redis_url, queue_name=f"queue{offset_s}")
            systems.append(await stack.enter_async_context(system))
        await asyncio.gather(*(check(system, *case) for system in systems for case in WAITING.items()))
    executions = execution_log.read(tmp_path / "records")
    assert executions and all(began < one.started_at < time.time() for one in executions)
