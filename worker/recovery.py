"""Finds what was left behind: workers that died, runs whose lease has run out, timers that are due, deadlines that passed.

Every worker does this all the time; SKIP LOCKED and guarded updates let any number of them. A pull at the end of each round
makes up for every doorbell that was lost.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import structlog

from engine.states import RunStatus
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.events.publisher import publish_transitions
from persistence.events.run_transition import RunTransition
from persistence.maintenance import presence
from persistence.maintenance.rescue import LIMIT, rescue_expired
from persistence.maintenance.timers import due, overdue
from persistence.queue.notifier import Notifier
from persistence.runs.children import cancel_orphans, settle
from worker.runner import Runner

log = structlog.get_logger(__name__)

GRACE_S = 3.0
"""After a database that was away is back: the others need a moment to take their locks anew."""


class Recovery:
    def __init__(self, runner: Runner, queue: Notifier, *, max_attempts: int, interval_s: float) -> None:
        self._runner, self._queue = runner, queue
        self._interval_s = interval_s
        self._missing: set[str] = set()
        self._trusts_at = 0.0
        self._outage = Outage("recovery")
        self._steps: dict[str, Callable[[], Awaitable[list[RunTransition]]]] = {
            "lost": lambda: rescue_expired(runner.database, max_attempts),
            "orphans": self._cancel_orphans,
            "children": self._settle_children,
            "due": lambda: due(runner.database),
            "overdue": lambda: overdue(runner.database),
        }

    async def watch_forever(self) -> None:
        pause = self._interval_s
        while True:
            # Out of step with the other workers, so that they don't all ask at once.
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            try:
                # There is more where there was much: no need to wait for the next round.
                pause = 0 if await self.once() >= LIMIT else self._interval_s
                self._outage.over()
            except DATABASE_ERRORS as error:
                self._outage.met(error)
                self._missing, self._trusts_at = set(), asyncio.get_running_loop().time() + GRACE_S
                pause = self._interval_s

    async def once(self) -> int:
        """One round. Answers with how many runs it has moved."""
        await self._find_dead()
        transitions = [one for name in self._steps for one in await self._step(name)]
        self._runner.pull()
        for one in transitions:
            log.info("recovery.moved", run_id=one.run_id, status=one.status, was=one.previous)
        await publish_transitions(self._runner.redis, transitions)
        if any(one.status is RunStatus.QUEUED for one in transitions):
            await self._queue.notify_queue()
        return len(transitions)

    async def _step(self, name: str) -> Sequence[RunTransition]:
        """A step that meets what it cannot handle is told of, and holds up neither the others nor the next round."""
        try:
            return await self._steps[name]()
        except DATABASE_ERRORS:
            raise
        except Exception:
            log.exception("recovery.fault", step=name)
            return ()

    async def _cancel_orphans(self) -> list[RunTransition]:
        """Children that a worker holds are CANCELLING then: it is told."""
        cancelled = await cancel_orphans(self._runner.database)
        for one in cancelled:
            await self._queue.notify_run(one.run_id)
        return cancelled

    async def _settle_children(self) -> list[RunTransition]:
        """Before what is due: a parent that waits for nothing else is queued in the same round."""
        for parent_id in await settle(self._runner.database.pool):
            await self._queue.notify_run(parent_id)
        return []

    async def _find_dead(self) -> None:
        """A worker whose lock is free at two looks in a row is dead: nobody has to wait for its leases."""
        pool = self._runner.database.pool
        missing = await presence.missing(pool)
        if asyncio.get_running_loop().time() < self._trusts_at:
            return
        suspects = sorted(missing & self._missing)
        self._missing = missing - set(suspects)
        if suspects and (dead := await presence.bury(pool, suspects)):
            log.warning("recovery.dead", workers=dead)
