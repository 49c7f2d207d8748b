"""The heartbeat: renews the leases of all runs this worker holds, in one statement, and reads their intents on the way.

What cannot be renewed in time is stopped by the watchdog before its lease can be taken, and never renewed again.
"""

import asyncio

import asyncpg

from engine.runtime.run_info import StopReason
from engine.states import RunStatus
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.queue.leases import LeaseStatus, lease_statuses, renew
from persistence.runs.waits import open_waits
from worker.lease_clock import clock
from worker.runner import Runner

INTENTS = {RunStatus.CANCELLING: StopReason.CANCEL, RunStatus.PAUSING: StopReason.PAUSE}


class Heartbeat:
    def __init__(self, runner: Runner, pool: asyncpg.Pool, *, interval_s: float) -> None:
        self._runner, self._pool, self._interval_s = runner, pool, interval_s
        self._outage = Outage("lease")

    async def beat_forever(self) -> None:
        while True:
            began = clock()
            try:
                # A statement that hangs must not keep the next one from being tried.
                async with asyncio.timeout(self._interval_s):
                    await self.beat()
                self._outage.over()
            except DATABASE_ERRORS as error:
                self._outage.met(error)
            await asyncio.sleep(max(self._interval_s - (clock() - began), 0))

    async def beat(self) -> None:
        runner, now = self._runner, clock()
        held = [(run_id, one.claimed.epoch) for run_id, one in runner.held.items() if not runner.is_late(one)]
        if not held:
            return
        found = await renew(self._pool, held, runner.lease_ttl_s)
        for run_id, epoch in held:
            one = runner.held.get(run_id)
            if one is not None and one.claimed.epoch == epoch and run_id in found:
                one.renewed_at = now
        await obey(runner, held, found)


async def look(runner: Runner, run_id: str) -> None:
    """After a nudge: what does the row of this run ask for?"""
    one = runner.held.get(run_id)
    if one is not None:
        held = [(run_id, one.claimed.epoch)]
        await obey(runner, held, await lease_statuses(runner.database.pool, held))


async def obey(runner: Runner, held: list[tuple[str, int]], found: dict[str, LeaseStatus]) -> None:
    """Passes on what the rows say: an intent, an answer, breakpoints, or that the run is not ours any more."""
    for run_id, epoch in held:
        one = runner.held.get(run_id)
        if one is None or one.executor is None or one.claimed.epoch != epoch:
            continue
        stand = found.get(run_id)
        if stand is None:
            runner.request(run_id, StopReason.LEASE_LOST)
            continue
        one.executor.set_breakpoints(stand.breakpoints)
        if stand.is_answered and one.executor.is_waiting:
            waits = await open_waits(runner.database.pool, run_id, runner.journal.clocks.apart)
            one.executor.answered([wait for wait in waits if wait.is_answered])
        if stand.status in INTENTS:
            runner.request(run_id, INTENTS[stand.status])
