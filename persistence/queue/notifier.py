"""Notifies workers over Redis that runs are queued, or that a run has a new intent.

Queued runs are notified over arq and pub/sub, intents over pub/sub only. A notification is a hint,
never the truth: the queue and the intents are in Postgres. Recovery makes up for a lost
notification of the queue, the heartbeat for a lost notification of a run. So nothing here raises,
and nothing waits longer than TIMEOUT_S for a Redis that hangs. Used by servers and workers.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from engine.states import LEASED, RunStatus
from persistence.db.outage import Outage
from persistence.events.publisher import Notice
from persistence.events.run_transition import RunTransition

POLL_QUEUE = "poll_queue"
"""The name of the only arq job: it makes a worker poll the queue in Postgres."""
JOB_INTERVAL_S = 0.25
"""Shortest time between two jobs. Workers that listen get the pub/sub message; the job is for the
poll of arq, and more jobs than polls are of no use."""
TIMEOUT_S = 1.0
"""How long one notification may take."""


class Notifier:
    """Notifications of one deployment; `name` keeps deployments that share a Redis apart."""

    def __init__(self, redis: ArqRedis, name: str) -> None:
        self._redis, self.name = redis, name
        self._is_notifying = self._is_requested = False
        self._job_at = float("-inf")
        self._outage = Outage("queue")

    async def notify_queue(self) -> None:
        """Notify workers that runs are queued. Calls during a notification share the next one."""
        self._is_requested = True
        if self._is_notifying:
            return
        self._is_notifying = True
        try:
            while self._is_requested:
                self._is_requested = False
                await self._send(self._notify_queue())
        finally:
            self._is_notifying = False

    async def _notify_queue(self) -> None:
        await self._redis.publish(self.queue_channel, "")
        if self._is_job_due():
            await self._enqueue_job()

    def _is_job_due(self) -> bool:
        return time.monotonic() - self._job_at > JOB_INTERVAL_S

    async def _enqueue_job(self) -> None:
        self._job_at = time.monotonic()
        # All jobs have one id: arq drops a second job while the first one waits.
        await self._redis.enqueue_job(POLL_QUEUE, _job_id=f"{self.name}:{POLL_QUEUE}", _queue_name=self.name)

    def notices(self, transitions: Sequence[RunTransition]) -> list[Notice]:
        """Return the notices to the workers that have to act on transitions.

        They are published together with the transitions. If a run is queued, `enqueue_poll` follows.
        """
        held = [Notice(self.run_channel, one.run_id) for one in transitions if one.status in LEASED]
        return [Notice(self.queue_channel, ""), *held] if _queues_a_run(transitions) else held

    async def enqueue_poll(self, transitions: Sequence[RunTransition]) -> None:
        """Enqueue the job of arq if a transition queues a run and the last job is old enough."""
        if _queues_a_run(transitions) and self._is_job_due():
            await self._send(self._enqueue_job())

    async def notify_run(self, run_id: str) -> None:
        """Notify the worker that holds the run to read its intents now."""
        await self._send(self._redis.publish(self.run_channel, run_id))

    async def notify_triggers(self) -> None:
        """Notify the workers that a trigger or an endpoint was changed, or has something new to do."""
        await self._send(self._redis.publish(self.triggers_channel, ""))

    async def _send(self, notification: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await notification
            self._outage.recovered()
        except (RedisError, OSError) as error:  # A TimeoutError is an OSError.
            self._outage.failed(error)

    @property
    def queue_channel(self) -> str:
        """The pub/sub channel that says that runs are queued."""
        # Renaming it would cut off processes of another release that run at the same time.
        return f"{self.name}:bell"

    @property
    def triggers_channel(self) -> str:
        """The pub/sub channel that says that triggers or endpoints were changed."""
        return f"{self.name}:triggers"

    @property
    def run_channel(self) -> str:
        """The pub/sub channel whose messages are ids of runs with a new intent."""
        # The name stays for the same reason as that of `queue_channel`.
        return f"{self.name}:nudge"


def _queues_a_run(transitions: Sequence[RunTransition]) -> bool:
    return any(transition.status is RunStatus.QUEUED for transition in transitions)
