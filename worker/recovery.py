"""Finds what was left behind: workers that died, runs whose lease has run out, timers that are due, deadlines that passed.

Every worker does this all the time; SKIP LOCKED and guarded updates let any number of them. A pull at the end of each round
makes up for every doorbell that was lost.
"""

import asyncio
import random
from collections.abc import Sequence

import structlog

from engine.states import RunStatus
from persistence import leases, presence
from persistence.away import DATABASE_TROUBLE
from persistence.leases import Moved, publishable
from persistence.lost import take_back
from persistence.publish import publish
from persistence.timers import due, overdue
from worker.execute import Runner
from worker.queue import Queue

log = structlog.get_logger(__name__)


class Recovery:
    def __init__(self, runner: Runner, queue: Queue, *, max_attempts: int, interval_s: float) -> None:
        self._runner, self._queue = runner, queue
        self._max_attempts, self._interval_s = max_attempts, interval_s
        self._missing: set[str] = set()

    async def watch_forever(self) -> None:
        is_away = False
        while True:
            # Out of step with the other workers, so that they don't all ask at once.
            await asyncio.sleep(self._interval_s * random.uniform(0.75, 1.25))
            try:
                await self.once()
                is_away = False
            except DATABASE_TROUBLE as away:
                if not is_away:
                    log.warning("recovery.waiting", error=str(away) or type(away).__name__)
                is_away = True

    async def once(self) -> None:
        database = self._runner.database
        await self._find_dead()
        moved = [*await take_back(database, self._max_attempts), *await due(database), *await overdue(database)]
        await publish(self._runner.redis, *publishable(moved))
        await self._tell(moved)
        self._runner.pull()

    async def _find_dead(self) -> None:
        """A worker whose lock is free at two looks in a row is dead: nobody has to wait for its leases."""
        pool = self._runner.database.pool
        missing = await presence.missing(pool)
        dead = sorted(missing & self._missing)
        self._missing = missing - set(dead)
        if dead:
            log.warning("recovery.dead", workers=dead)
            await leases.expire(pool, dead)
            await presence.bury(pool, dead)

    async def _tell(self, moved: Sequence[Moved]) -> None:
        for one in moved:
            log.info("recovery.moved", run_id=one.run_id, status=one.change.status, was=one.change.previous)
        if any(one.change.status is RunStatus.QUEUED for one in moved):
            await self._queue.ring()
