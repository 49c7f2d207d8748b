"""The doorbell: tells workers over arq that a run may be taken up, and over pub/sub that they should look at one now.

Never the truth. A ring that Redis loses is made up for by recovery, a nudge by the heartbeat; so nothing here raises.
"""

from datetime import datetime

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

TAKE_UP = "take_up"
"""The name of the one arq job there is."""


class Queue:
    """One queue of one deployment; `name` keeps deployments that share a Redis apart."""

    def __init__(self, redis: ArqRedis, name: str) -> None:
        self._redis, self.name = redis, name

    async def ring(self, run_id: str, takeup: int, *, defer_until: datetime | None = None) -> None:
        """A job a take-up: the second ring for the same one is swallowed while the first is waiting."""
        job_id = f"{run_id}/{takeup}"
        try:
            await self._redis.enqueue_job(
                TAKE_UP, run_id, _job_id=job_id, _queue_name=self.name, _defer_until=defer_until
            )
            # arq polls; this wakes it, so that its poll delay does not show.
            await self._redis.publish(self.bell, run_id)
        except (RedisError, OSError) as error:
            log.warning("queue.ring_failed", run_id=run_id, error=str(error) or type(error).__name__)

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
