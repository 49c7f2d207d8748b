"""The heartbeat renews leases, and reads what the rows of the runs ask for: each run for itself."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.sdk.node import NodeContext, Output
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.runs.waits import open_waits
from tests.executor_worker import GatedConfig, GatedNode, accept_spec, edges, eventually, node, node_types
from tests.worker.paused_runs import answer
from tests.worker.running_worker import ended, running
from worker.heartbeat import Heartbeat, _apply, check_runs
from worker.lease_clock import clock
from worker.runner import Runner

GATED: dict[str, Any] = {"nodes": [{"id": "gated", "type": "gated"}, node("after")], "edges": edges("gated>after")}
ASKING: dict[str, Any] = {**GATED, "nodes": [*GATED["nodes"], {"id": "ask", "type": "ask", "config": {"prompt": 1}}]}
RUNS = ("lost", "untouched", "cancelled", "paused", "stopped", "answered", "last")
"""In the order of the worker's tasks. The runs around each one must not change what it gets."""


class CountedGate(GatedNode):
    """Counts the executions that have begun."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def execute(self, config: GatedConfig, ctx: NodeContext) -> Output:
        self.count += 1
        return await super().execute(config, ctx)


async def begin(
    database: Database, caller: Caller, project: str, runner: Runner, gate: CountedGate, names: tuple[str, ...]
) -> dict[str, str]:
    """Start one run for each name, one after the other, and return their ids."""
    ids = {}
    for count, name in enumerate(names, start=1):
        ids[name] = await accept_spec(database, caller, project, ASKING if name == "answered" else GATED)
        runner.poll()
        await eventually(lambda count=count: _is(gate.count == count))  # type: ignore[misc]
    return ids


async def _is(true: bool) -> bool:
    return true


async def beat(runner: Runner, _: list[str]) -> None:
    await Heartbeat(runner, runner.database.pool, interval_s=5).beat()


READINGS: dict[str, Callable[[Runner, list[str]], Awaitable[None]]] = {"heartbeat": beat, "notification": check_runs}


@pytest.mark.parametrize("reading", READINGS)
async def test_each_run_gets_its_own_intent(
    database: Database, redis: Redis, caller: Caller, project: str, reading: str
) -> None:
    gate = CountedGate()
    async with running(database, redis, node_types(gate)) as runner:
        ids = await begin(database, caller, project, runner, gate, RUNS)
        lost = runner.tasks[ids["lost"]]
        assert list(runner.tasks) == list(ids.values())
        await database.pool.execute("UPDATE runs SET epoch = epoch + 1 WHERE id = $1", ids["lost"])
        for name, status in (("cancelled", "CANCELLING"), ("paused", "PAUSING")):
            await database.pool.execute("UPDATE runs SET status = $2 WHERE id = $1", ids[name], status)
        options = {"timeoutS": None, "breakpoints": ["after"], "stepwise": False}
        await database.pool.execute("UPDATE runs SET options = $2 WHERE id = $1", ids["stopped"], options)
        [wait] = await eventually(lambda: open_waits(database.pool, ids["answered"]))
        await answer(database, wait.id, "yes")

        await READINGS[reading](runner, list(ids.values()))

        await asyncio.wait_for(lost.wait(), 10)
        assert (await ended(database, ids["cancelled"]))["status"] == "CANCELLED"
        completed = "SELECT true FROM node_states WHERE run_id = $1 AND node_id = 'ask' AND status = 'COMPLETED'"
        await eventually(lambda: database.pool.fetchval(completed, ids["answered"]))
        assert gate.count == len(RUNS)
        gate.release.set()
        await eventually(lambda: _is(not runner.tasks))
        rows = await database.pool.fetch("SELECT id, status FROM runs")
    statuses = {row["id"]: row["status"] for row in rows}
    assert {name: statuses[run_id] for name, run_id in ids.items()} == {
        "lost": "RUNNING",  # as the worker that holds it now has left it
        "untouched": "COMPLETED",
        "cancelled": "CANCELLED",
        "paused": "PAUSED",
        "stopped": "PAUSED",
        "answered": "COMPLETED",
        "last": "COMPLETED",
    }


async def test_a_beat_renews_the_leases_that_are_held_and_not_late(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    gate = CountedGate()
    async with running(database, redis, node_types(gate)) as runner:
        ids = await begin(database, caller, project, runner, gate, ("lost", "late", "held"))
        await database.pool.execute("UPDATE runs SET epoch = epoch + 1 WHERE id = $1", ids["lost"])
        soon = "UPDATE runs SET lease_until = now() + interval '1 s'"
        await database.pool.execute(soon)
        tasks = {name: runner.tasks[run_id] for name, run_id in ids.items()}
        for name, ago_s in (("lost", 20), ("late", 0.95 * runner.lease_ttl_s), ("held", 20)):
            tasks[name].renewed_at = clock() - ago_s
        before = {name: task.renewed_at for name, task in tasks.items()}
        began = clock()
        await beat(runner, [])
        rows = await database.pool.fetch("SELECT id, lease_until - now() AS left FROM runs")
        left = {row["id"]: row["left"] for row in rows}
        assert {name: left[run_id] > timedelta(seconds=30) for name, run_id in ids.items()} == {
            "lost": False,
            "late": False,
            "held": True,
        }
        assert {name: task.renewed_at for name, task in tasks.items() if name != "held"} == {
            name: at for name, at in before.items() if name != "held"
        }
        assert tasks["held"].renewed_at >= began
        gate.release.set()


async def test_the_heartbeat_goes_on_renewing_leases(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    gate = CountedGate()
    renewed = "SELECT bool_and(lease_until > now() + interval '30 s') FROM runs"
    async with running(database, redis, node_types(gate)) as runner:
        await begin(database, caller, project, runner, gate, ("held",))
        beating = asyncio.create_task(Heartbeat(runner, database.pool, interval_s=0.2).beat_forever())
        for _ in range(3):
            await database.pool.execute("UPDATE runs SET lease_until = now() + interval '1 s'")
            await eventually(lambda: database.pool.fetchval(renewed))
        beating.cancel()
        gate.release.set()


async def test_a_beat_without_runs_does_nothing(database: Database, redis: Redis) -> None:
    async with running(database, redis) as runner:
        await beat(runner, [])
        await check_runs(runner, ["run_unknown"])
        assert not runner.tasks


async def test_beats_begin_one_interval_apart_however_long_they_take_and_also_if_they_fail(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    interval_s, begun = 0.2, list[float]()

    class SlowBeats(Heartbeat):
        async def beat(self) -> None:
            begun.append(clock())
            await asyncio.sleep(0.4 * interval_s)
            raise ConnectionError("Postgres is unavailable")

    async with running(database, redis) as runner:
        beating = asyncio.create_task(SlowBeats(runner, database.pool, interval_s=interval_s).beat_forever())
        await eventually(lambda: _is(len(begun) > 5))
        beating.cancel()
    # A busy machine makes a beat late, but not all of them.
    shortest = min(later - earlier for earlier, later in pairwise(begun))
    assert 0.9 * interval_s < shortest < 1.3 * interval_s


async def test_what_was_read_of_another_epoch_is_not_applied_to_the_run_that_is_held_now(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    gate = CountedGate()
    async with running(database, redis, node_types(gate)) as runner:
        ids = await begin(database, caller, project, runner, gate, ("held", "lost"))
        lost, epoch = runner.tasks[ids["lost"]], runner.tasks[ids["held"]].claimed.epoch
        others = [(ids["held"], epoch - 1), (ids["held"], epoch + 1), ("run_released", 1)]
        await _apply(runner, [*others, (ids["lost"], epoch)], {})
        await asyncio.wait_for(lost.wait(), 10)
        gate.release.set()
        assert (await ended(database, ids["held"]))["status"] == "COMPLETED"
