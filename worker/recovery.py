"""Finds what was left behind: runs whose worker is gone, runs whose doorbell was lost, deadlines that passed.

Every worker does this all the time; SKIP LOCKED and guarded updates let any number of them.
"""

import asyncio
import random

import structlog
from redis.asyncio import Redis

from engine.states import RunStatus
from persistence.database import Database
from persistence.journal import AWAY
from persistence.leases import Moved, expire_pending, publishable, take_back, unheard
from persistence.publish import publish
from worker.queue import Queue

log = structlog.get_logger(__name__)

UNHEARD_S = 2.0
"""A run that has been queued for longer than this may have lost its doorbell: it is rung for again."""


class Recovery:
    def __init__(self, database: Database, redis: Redis, queue: Queue, *, max_attempts: int, interval_s: float) -> None:
        self._database, self._redis, self._queue = database, redis, queue
        self._max_attempts, self._interval_s = max_attempts, interval_s

    async def watch_forever(self) -> None:
        while True:
            # Out of step with the other workers, so that they don't all ask at once.
            await asyncio.sleep(self._interval_s * random.uniform(0.75, 1.25))
            try:
                await self.once()
            except AWAY as away:
                log.warning("recovery.waiting", error=str(away) or type(away).__name__)

    async def once(self) -> None:
        pool = self._database.pool
        moved = await take_back(pool, self._max_attempts) + await expire_pending(pool)
        await publish(self._redis, *publishable(moved))
        for one in moved:
            await self._after(one)
        for run_id, takeup in await unheard(pool, UNHEARD_S):
            await self._queue.ring(run_id, takeup)

    async def _after(self, moved: Moved) -> None:
        log.warning("recovery.moved", run_id=moved.run_id, status=moved.change.status, was=moved.change.previous)
        if moved.change.status is RunStatus.QUEUED:
            await self._queue.ring(moved.run_id, moved.takeup)
