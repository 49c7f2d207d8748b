"""The heartbeat: renews the leases of all runs this worker holds, in one statement, and reads their intents on the way.

A worker that cannot renew in time stops its own runs before the leases can be taken: from then on it would be a zombie.
"""

import asyncio
import time

import asyncpg
import structlog

from engine.drive import Stop
from engine.states import RunStatus
from persistence.away import DATABASE_TROUBLE
from persistence.leases import Stand, renew, stands
from persistence.waits import open_waits
from worker.execute import Runner

log = structlog.get_logger(__name__)

INTENTS = {RunStatus.CANCELLING: Stop.CANCEL, RunStatus.PAUSING: Stop.PAUSE}


def clock() -> float:
    """Seconds that pass while the machine sleeps, too, where the system has such a clock: leases run out meanwhile."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Heartbeat:
    def __init__(self, runner: Runner, pool: asyncpg.Pool, *, interval_s: float) -> None:
        self._runner, self._pool, self._interval_s = runner, pool, interval_s
        self._renewed_at = clock()

    async def beat_forever(self) -> None:
        while True:
            began = clock()
            # Asked first: whoever was stopped for a while, by a signal or a full machine, must not renew what may be lost.
            if began - self._renewed_at > self._runner.lease_ttl_s:
                self._stop_all()
            try:
                # A database that hangs must not keep us from noticing that our time is up.
                async with asyncio.timeout(self._interval_s):
                    await self.beat()
                self._renewed_at = began
            except DATABASE_TROUBLE as away:
                log.warning("lease.not_renewed", error=str(away) or type(away).__name__)
            if clock() - self._renewed_at + self._interval_s > self._runner.lease_ttl_s:
                self._stop_all()
            await asyncio.sleep(max(self._interval_s - (clock() - began), 0))

    async def beat(self) -> None:
        held = _held(self._runner)
        if held:
            await obey(self._runner, held, await renew(self._pool, held, self._runner.lease_ttl_s))

    def _stop_all(self) -> None:
        for run_id in list(self._runner.held):
            self._runner.request(run_id, Stop.LEASE_LOST)


def _held(runner: Runner) -> list[tuple[str, int]]:
    return [(run_id, one.claimed.epoch) for run_id, one in runner.held.items()]


async def look(runner: Runner, run_id: str) -> None:
    """After a nudge: what does the row of this run ask for?"""
    held = [pair for pair in _held(runner) if pair[0] == run_id]
    if held:
        await obey(runner, held, await stands(runner.database.pool, held))


async def obey(runner: Runner, held: list[tuple[str, int]], found: dict[str, Stand]) -> None:
    """Passes on what the rows say: an intent, an answer, breakpoints, or that the run is not ours any more."""
    for run_id, epoch in held:
        one = runner.held.get(run_id)
        if one is None or one.drive is None or one.claimed.epoch != epoch:
            continue
        stand = found.get(run_id)
        if stand is None:
            runner.request(run_id, Stop.LEASE_LOST)
            continue
        one.drive.set_breakpoints(stand.breakpoints)
        if stand.is_answered and one.drive.is_waiting:
            waits = await open_waits(runner.database.pool, run_id)
            one.drive.answered([wait for wait in waits if wait.is_answered])
        if stand.status in INTENTS:
            runner.request(run_id, INTENTS[stand.status])
