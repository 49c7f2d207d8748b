"""Fires the triggers that are due, and sleeps until the next one is.

Every worker does this; SKIP LOCKED divides the work. A notification over Redis ends the sleep when
a trigger is changed. A lost one costs POLL_S at most. A crash loses nothing: a trigger is advanced by
the transaction that fires it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

import structlog
from redis.asyncio import Redis

from engine.states import RunStatus, TriggerEventStatus
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.events.publisher import announce_each, publish_transitions
from persistence.queue.notifier import Notifier
from persistence.triggers.due import BATCH, DueTriggers, FiredBatch
from persistence.triggers.events import RecordedFiring, events_channel

log = structlog.get_logger(__name__)

POLL_S = 5.0
"""The longest sleep. It bounds the delay that a lost notification causes."""
PAUSE_S = 0.05
"""The pause after a batch of which another worker has taken a part."""


class TriggerLoop:
    """The task of one worker that fires triggers. `clock` replaces the clock of the database in tests."""

    def __init__(
        self,
        triggers: DueTriggers,
        redis: Redis,
        notifier: Notifier,
        clock: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._triggers, self._redis, self._notifier, self._clock = triggers, redis, notifier, clock
        self._changed = asyncio.Event()
        self._outage = Outage("triggers")
        self._follows_runs = True
        triggers.when_ready(self.wake)

    def wake(self) -> None:
        """End the sleep: a trigger was changed, or messages may be missing."""
        self._changed.set()

    def run_ended(self) -> None:
        """End the sleep if the end of a run may have fired a trigger."""
        if self._follows_runs:
            self._changed.set()

    async def fire_forever(self) -> None:
        """Fire what is due, again and again, until cancelled."""
        try:
            while True:
                await self._fire_and_sleep()
        finally:
            self._triggers.close()

    async def _fire_and_sleep(self) -> None:
        self._changed.clear()
        pause_s = POLL_S
        try:
            pause_s = min(await self.fire_due(), POLL_S)
            self._outage.recovered()
        except DATABASE_ERRORS as error:
            self._outage.failed(error)
            pause_s = 1.0
        except Exception:
            log.exception("triggers.round_failed")
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._changed.wait()

    async def fire_due(self) -> float:
        """Fire everything that is due now. Return the seconds until more is."""
        for fire in (self._triggers.fire_ready, self._triggers.fire_batch, self._triggers.fire_pending):
            while await self._fire_batch(fire):
                pass
        self._follows_runs = await self._triggers.follows_runs()
        seconds = await self._triggers.next_due_s(self._clock())
        # What is due still is in the hands of another worker.
        return POLL_S if seconds is None else max(seconds, PAUSE_S)

    async def _fire_batch(self, fire: Callable[[datetime | None], Awaitable[FiredBatch]]) -> bool:
        """Fire one batch. Return whether there is probably more."""
        batch = await fire(self._clock())
        await self._publish(batch.fired)
        return batch.found == BATCH and bool(batch.fired)

    async def _publish(self, fired: list[RecordedFiring]) -> None:
        for one in fired:
            if one.event.status is not TriggerEventStatus.FIRED:
                log.info("triggers.not_fired", trigger_id=one.event.trigger_id, status=one.event.status)
        transitions = [each for one in fired for each in one.transitions]
        await publish_transitions(self._redis, transitions)
        if any(one.status is RunStatus.QUEUED for one in transitions):
            await self._notifier.notify_queue()
        await announce_each(self._redis, [(events_channel(one.event.project_id), one.event.id) for one in fired])
