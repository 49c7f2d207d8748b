"""The doorbell: tells workers over arq that there is something to claim, and over pub/sub that they should look now.

Never the truth, and never about one run: the queue is in Postgres, and a ring says no more than that it is worth a look. A
ring that Redis loses is made up for by recovery, a nudge by the heartbeat; so nothing here raises.
"""

import time

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

TAKE_UP = "take_up"
"""The name of the one arq job there is."""
RING_S = 0.25
"""The bell reaches who listens; a job, for who polls, need not be put more often than they poll."""


class Queue:
    """One queue of one deployment; `name` keeps deployments that share a Redis apart."""

    def __init__(self, redis: ArqRedis, name: str) -> None:
        self._redis, self.name = redis, name
        self._is_ringing = self._rings_again = False
        self._put_at = float("-inf")

    async def ring(self) -> None:
        """Rings once for all that ask while it rings."""
        self._rings_again = True
        if self._is_ringing:
            return
        self._is_ringing = True
        try:
            while self._rings_again:
                self._rings_again = False
                await self._ring()
        except (RedisError, OSError) as error:
            log.warning("queue.ring_failed", error=str(error) or type(error).__name__)
        finally:
            self._is_ringing = False

    async def _ring(self) -> None:
        await self._redis.publish(self.bell, "")
        if time.monotonic() - self._put_at > RING_S:
            self._put_at = time.monotonic()
            # One id: the second job is swallowed while the first is waiting.
            await self._redis.enqueue_job(TAKE_UP, _job_id=f"{self.name}:{TAKE_UP}", _queue_name=self.name)

    async def nudge(self, run_id: str) -> None:
        """Asks whoever holds the run to look at its intents now."""
        try:
            await self._redis.publish(self.nudges, run_id)
        except (RedisError, OSError) as error:
            log.warning("queue.nudge_failed", run_id=run_id, error=str(error) or type(error).__name__)

    @property
    def bell(self) -> str:
        return f"{self.name}:bell"

    @property
    def nudges(self) -> str:
        return f"{self.name}:nudge"
