"""Renews the leases of all runs of this worker in one statement, and reads their intents with it.

A run that is not renewed in time is stopped by the watchdog before its lease expires, and is never
renewed again.
"""

import asyncio
from collections.abc import Sequence

import asyncpg

from engine.runtime.run_info import StopReason
from engine.states import RunStatus
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.queue.leases import Lease, LeaseStatus, lease_statuses, renew
from persistence.runs.waits import open_waits
from worker.lease_clock import clock
from worker.run_task import RunTask
from worker.runner import Runner

INTENTS = {RunStatus.CANCELLING: StopReason.CANCEL, RunStatus.PAUSING: StopReason.PAUSE}


class Heartbeat:
    """Beats every `interval_s` seconds on connections of its own, `pool`."""

    def __init__(self, runner: Runner, pool: asyncpg.Pool, *, interval_s: float) -> None:
        self._runner, self._pool, self._interval_s = runner, pool, interval_s
        self._outage = Outage("lease")

    async def beat_forever(self) -> None:
        while True:
            began = clock()
            try:
                # A statement that hangs must not prevent the next one.
                async with asyncio.timeout(self._interval_s):
                    await self.beat()
                self._outage.recovered()
            except DATABASE_ERRORS as error:
                self._outage.failed(error)
            await asyncio.sleep(max(self._interval_s - (clock() - began), 0))

    async def beat(self) -> None:
        """Renew the leases that are not late, and apply what the rows of the runs say."""
        runner, now = self._runner, clock()
        leases = [_lease_of(task) for task in runner.tasks.values() if not task.is_late]
        if not leases:
            return
        statuses = await renew(self._pool, leases, runner.lease_ttl_s)
        for run_id, epoch in leases:
            task = _task_of(runner, run_id, epoch)
            if task is not None and run_id in statuses:
                task.renewed_at = now
        await _apply(runner, leases, statuses)


async def check_runs(runner: Runner, run_ids: Sequence[str]) -> None:
    """Read and apply the intents of those runs among `run_ids` that this worker holds."""
    leases = [_lease_of(runner.tasks[run_id]) for run_id in run_ids if run_id in runner.tasks]
    if leases:
        await _apply(runner, leases, await lease_statuses(runner.database.pool, leases))


async def _apply(runner: Runner, leases: Sequence[Lease], statuses: dict[str, LeaseStatus]) -> None:
    """Pass on what the rows say: an intent, an answer, breakpoints, or that the lease is lost."""
    for run_id, epoch in leases:
        task = _task_of(runner, run_id, epoch)
        if task is None or task.executor is None:
            continue
        status = statuses.get(run_id)
        if status is None:
            task.request(StopReason.LEASE_LOST)
            continue
        task.executor.set_breakpoints(status.breakpoints)
        if status.is_answered and task.executor.has_open_waits:
            waits = await open_waits(runner.database.pool, run_id, runner.journal.clock_skew.offset)
            task.executor.receive_answers([wait for wait in waits if wait.is_answered])
        if runner.exceeds_storage(status.stored_bytes):
            task.request(StopReason.STORAGE)
        if status.status in INTENTS:
            task.request(INTENTS[status.status])


def _lease_of(task: RunTask) -> Lease:
    return task.run_id, task.claimed.epoch


def _task_of(runner: Runner, run_id: str, epoch: int) -> RunTask | None:
    """Return the task of this lease.

    None: the run was released, or claimed again, while a statement ran.
    """
    task = runner.tasks.get(run_id)
    return task if task is not None and task.claimed.epoch == epoch else None
