"""Finds dead workers, expired leases, due timers and passed deadlines, and repairs their runs.

Every worker does this all the time; SKIP LOCKED and guarded updates divide the work. A poll of the
queue at the end of each round makes up for lost notifications.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from engine.metrics import RUNS_RESCUED, WORKERS_LOST
from engine.states import RunStatus
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.events.publisher import publish_transitions
from persistence.events.run_transition import RunTransition
from persistence.maintenance.presence import expire_leases_of, find_missing
from persistence.maintenance.rescue import LIMIT, rescue_expired
from persistence.maintenance.timers import end_overdue, wake_due
from persistence.queue.notifier import Notifier
from persistence.runs.children import answer_parents, cancel_orphans
from persistence.runs.run import transitions_of
from persistence.signals.matching import match_waits
from worker.runner import Runner

log = structlog.get_logger(__name__)

GRACE_S = 3.0
"""How long no worker counts as dead after an outage of the database: all take their locks again."""


class Recovery:
    """Runs a round every `interval_s` seconds, with jitter."""

    def __init__(self, runner: Runner, notifier: Notifier, *, max_attempts: int, interval_s: float) -> None:
        """`max_attempts` is the number of crashes without progress after which a run fails."""
        self._runner, self._notifier = runner, notifier
        self._interval_s = interval_s
        self._missing: set[str] = set()
        """The workers whose lock was free in the last round."""
        self._grace_until = 0.0
        self._outage = Outage("recovery")
        self._steps: dict[str, Callable[[], Awaitable[list[RunTransition]]]] = {
            "expired": lambda: self._rescue(max_attempts),
            "orphans": self._cancel_orphans,
            "children": self._settle_children,
            "signals": self._match_signals,
            "due": lambda: wake_due(runner.database),
            "overdue": lambda: end_overdue(runner.database),
        }

    async def watch_forever(self) -> None:
        pause_s = self._interval_s
        while True:
            # Jitter, so that the workers do not all query at once.
            await asyncio.sleep(pause_s * random.uniform(0.75, 1.25))
            try:
                # After a full batch there is probably more, so the next round starts at once.
                pause_s = 0 if await self.run_round() >= LIMIT else self._interval_s
                self._outage.recovered()
            except DATABASE_ERRORS as error:
                self._outage.failed(error)
                self._missing, self._grace_until = set(), asyncio.get_running_loop().time() + GRACE_S
                pause_s = self._interval_s

    async def run_round(self) -> int:
        """Run all steps once. Return the number of runs whose status changed."""
        await self._find_dead_workers()
        transitions = [one for name in self._steps for one in await self._run_step(name)]
        self._runner.poll()
        for one in transitions:
            log.info("recovery.moved", run_id=one.run_id, status=one.status, was=one.previous)
        await publish_transitions(self._runner.redis, transitions)
        if any(one.status is RunStatus.QUEUED for one in transitions):
            await self._notifier.notify_queue()
        return len(transitions)

    async def _run_step(self, name: str) -> Sequence[RunTransition]:
        """Run a step. An unexpected error is logged, and prevents no other step and no round."""
        try:
            return await self._steps[name]()
        except DATABASE_ERRORS:
            raise
        except Exception:
            log.exception("recovery.fault", step=name)
            return ()

    async def _rescue(self, max_attempts: int) -> list[RunTransition]:
        transitions = await rescue_expired(self._runner.database, max_attempts)
        for one in transitions:
            RUNS_RESCUED.labels(one.status.value).inc()
        return transitions

    async def _cancel_orphans(self) -> list[RunTransition]:
        """Cancel children without a parent that waits.

        A worker that holds one is notified to cancel it.
        """
        transitions = await cancel_orphans(self._runner.database)
        for one in transitions:
            await self._notifier.notify_run(one.run_id)
        return transitions

    async def _settle_children(self) -> list[RunTransition]:
        """Answer the waits of parents whose child runs have ended.

        This comes before the step for due runs, so that a parent without other waits is queued in
        the same round.
        """
        for parent_id in await answer_parents(self._runner.database.pool):
            await self._notifier.notify_run(parent_id)
        return []

    async def _match_signals(self) -> list[RunTransition]:
        """Give waits the events that came before them. The worker that holds such a run is notified."""
        results = await match_waits(self._runner.database)
        for one in results:
            if not one.transitions:
                await self._notifier.notify_run(one.run.id)
        return transitions_of(results)

    async def _find_dead_workers(self) -> None:
        """Expire the leases of a worker whose lock is free in two rounds in a row: it is dead."""
        pool = self._runner.database.pool
        missing = await find_missing(pool)
        if asyncio.get_running_loop().time() < self._grace_until:
            return
        suspects = sorted(missing & self._missing)
        self._missing = missing - set(suspects)
        if suspects and (dead := await expire_leases_of(pool, suspects)):
            WORKERS_LOST.inc(len(dead))
            log.warning("recovery.dead", workers=dead)
