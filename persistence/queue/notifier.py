"""The doorbell: tells workers over arq that there is something to claim, and over pub/sub that they should look now.

Never the truth, and never about one run: the queue is in Postgres, and a ring says no more than that it is worth a look. A
ring that Redis loses is made up for by recovery, a nudge by the heartbeat; so nothing here raises, and nothing here waits
for a Redis that hangs.
"""

import asyncio
import time
from collections.abc import Awaitable

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from persistence.db.outage import Outage

POLL_QUEUE = "poll_queue"
"""The name of the one arq job there is."""
RING_S = 0.25
"""The bell reaches who listens; a job, for who polls, need not be put more often than they poll."""
PATIENCE_S = 1.0


class Notifier:
    """One queue of one deployment; `name` keeps deployments that share a Redis apart."""

    def __init__(self, redis: ArqRedis, name: str) -> None:
        self._redis, self.name = redis, name
        self._is_ringing = self._rings_again = False
        self._put_at = float("-inf")
        self._outage = Outage("queue")

    async def notify_queue(self) -> None:
        """Rings once for all that ask while it rings."""
        self._rings_again = True
        if self._is_ringing:
            return
        self._is_ringing = True
        try:
            while self._rings_again:
                self._rings_again = False
                await self._patiently(self._ring())
        finally:
            self._is_ringing = False

    async def _ring(self) -> None:
        await self._redis.publish(self.bell, "")
        if time.monotonic() - self._put_at > RING_S:
            self._put_at = time.monotonic()
            # One id: the second job is swallowed while the first is waiting.
            await self._redis.enqueue_job(POLL_QUEUE, _job_id=f"{self.name}:{POLL_QUEUE}", _queue_name=self.name)

    async def notify_run(self, run_id: str) -> None:
        """Asks whoever holds the run to look at its intents now."""
        await self._patiently(self._redis.publish(self.nudges, run_id))

    async def _patiently(self, saying: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await saying
            self._outage.over()
        except (RedisError, OSError) as error:  # A TimeoutError is an OSError.
            self._outage.met(error)

    @property
    def bell(self) -> str:
        return f"{self.name}:bell"

    @property
    def nudges(self) -> str:
        return f"{self.name}:nudge"
