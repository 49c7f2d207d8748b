"""Sends analytics events to the Redis stream of their project and to the sinks.

The receivers are independent: one that fails or hangs gets its events later. After a failure it gets nothing
for a pause, so that one that hangs delays the others seldom, however many events wait for it. Workers call
`publish_due`; see the outbox for what a crash costs.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import asyncpg
import orjson
import structlog
from redis.asyncio import Redis

from engine.metrics import ANALYTICS_EVENTS
from engine.sdk.analytics import AnalyticsEvent, AnalyticsSink
from engine.values.timestamps import format_timestamp
from persistence.analytics import outbox
from persistence.analytics.outbox import ClaimedEvent
from persistence.analytics.sinks import STREAM
from persistence.db.outage import Outage

log = structlog.get_logger(__name__)

BATCH = 500
TIMEOUT_S = 20.0
"""Seconds that a receiver has for one batch. Less than a claim lasts."""
CLOSE_S = 5.0
"""Seconds that a receiver has to close."""
PAUSES_S = (5.0, 60.0)
"""The first and the longest pause of a receiver that has failed, in seconds. Each is twice the one before."""


def stream_of(project_id: str) -> str:
    """Return the key of the stream of a project."""
    return f"treadle:analytics:{project_id}"


class StreamSink(AnalyticsSink):
    """Appends events to the stream of their project, which keeps about `length` entries."""

    name = STREAM

    def __init__(self, redis: Redis, length: int) -> None:
        self._redis, self._length = redis, length

    async def send(self, events: Sequence[AnalyticsEvent]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for one in events:
            fields = {"id": one.id, "type": one.type, "at": format_timestamp(one.at), "data": orjson.dumps(one.data)}
            pipeline.xadd(stream_of(one.project_id), fields, maxlen=self._length, approximate=True)  # type: ignore[arg-type]
        await pipeline.execute()


class Receiver:
    """A sink with its outage. It is called by one task at a time."""

    def __init__(self, sink: AnalyticsSink, clock: Callable[[], float]) -> None:
        self.sink, self._clock = sink, clock
        self._outage = Outage("analytics.receiver", receiver=sink.name)
        self._pause_s, self._resumes_at = PAUSES_S[0], clock()

    async def send(self, events: Sequence[AnalyticsEvent]) -> bool:
        """Send events unless the sink has a pause. Return whether it has them now."""
        if not events:
            return True
        if self._clock() < self._resumes_at:
            return False
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self.sink.send(events)
        except Exception as error:  # third-party code may raise anything
            self._count("failed", events)
            self._outage.failed(error)
            self._resumes_at = self._clock() + self._pause_s
            self._pause_s = min(2 * self._pause_s, PAUSES_S[1])
            return False
        self._count("sent", events)
        self._outage.recovered()
        self._pause_s = PAUSES_S[0]
        return True

    async def close(self) -> None:
        """Close the sink. A fault is logged, and so is one that takes too long: the worker ends."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.sink.close()
        except Exception:
            log.exception("analytics.sink_fault", sink=self.sink.name)

    def _count(self, result: str, events: Sequence[AnalyticsEvent]) -> None:
        ANALYTICS_EVENTS.labels(self.sink.name, result).inc(len(events))


class AnalyticsPublisher:
    """Publishes the events of all projects to some receivers."""

    def __init__(
        self, pool: asyncpg.Pool, sinks: Sequence[AnalyticsSink], clock: Callable[[], float] = monotonic
    ) -> None:
        self._pool, self._receivers = pool, {one.name: Receiver(one, clock) for one in sinks}

    async def publish_all_due(self) -> None:
        """Publish everything that is due."""
        while await self.publish_due():
            pass

    async def publish_due(self) -> bool:
        """Publish some events that are due. Return whether more may be due now."""
        claimed = await outbox.claim(self._pool, BATCH)
        if not claimed:
            return False
        missing = {name: [one.event for one in claimed if name not in one.delivered] for name in self._receivers}
        sent = await asyncio.gather(*(self._receivers[name].send(events) for name, events in missing.items()))
        done, partly = _divide(claimed, dict(zip(self._receivers, sent, strict=True)))
        await outbox.record(self._pool, done, partly)
        return len(claimed) == BATCH

    async def prune(self) -> None:
        """Delete events that could not be delivered for too long."""
        if count := await outbox.prune(self._pool):
            ANALYTICS_EVENTS.labels("", "dropped").inc(count)
            log.warning("analytics.dropped", count=count, waiting_limit=outbox.MAX_WAITING, age_s=outbox.MAX_AGE_S)

    async def close(self) -> None:
        """Close the receivers, all at once."""
        await asyncio.gather(*(one.close() for one in self._receivers.values()))


def _divide(
    claimed: Sequence[ClaimedEvent], delivered: Mapping[str, bool]
) -> tuple[list[int], dict[int, frozenset[str]]]:
    """Return the events that all receivers have, and the receivers of each other one."""
    now = frozenset(name for name, is_delivered in delivered.items() if is_delivered)
    if len(now) == len(delivered):
        return [one.event.id for one in claimed], {}
    done, partly = [], {}
    for one in claimed:
        has = now | one.delivered
        if has >= delivered.keys():
            done.append(one.event.id)
        else:
            partly[one.event.id] = has
    return done, partly
