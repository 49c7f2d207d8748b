"""Sends analytics events to the Redis stream of their project and to the sinks.

The receivers are independent: one that fails or hangs gets its events later, and delays no other.
Workers call `publish_due`; see the outbox for what a crash costs.
"""

import asyncio
from collections.abc import Mapping, Sequence

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


class AnalyticsPublisher:
    """Publishes the events of all projects to some receivers."""

    def __init__(self, pool: asyncpg.Pool, receivers: Sequence[AnalyticsSink]) -> None:
        self._pool, self._receivers = pool, {one.name: one for one in receivers}
        self._outages = {name: Outage("analytics.receiver", receiver=name) for name in self._receivers}

    async def publish_all_due(self) -> None:
        """Publish everything that is due. After a failure of a receiver, the rest waits."""
        while await self.publish_due():
            pass

    async def publish_due(self) -> bool:
        """Publish some events that are due. Return whether more may be due now."""
        claimed = await outbox.claim(self._pool, BATCH)
        if not claimed:
            return False
        sent = await asyncio.gather(*(self._send(name, claimed) for name in self._receivers))
        delivered = dict(zip(self._receivers, sent, strict=True))
        done, partly = _divide(claimed, delivered)
        await outbox.record(self._pool, done, partly)
        return len(claimed) == BATCH and not partly

    async def prune(self) -> None:
        """Delete events that could not be delivered for too long."""
        if count := await outbox.prune(self._pool):
            ANALYTICS_EVENTS.labels("", "dropped").inc(count)
            log.warning("analytics.dropped", count=count, waiting_limit=outbox.MAX_WAITING, age_s=outbox.MAX_AGE_S)

    async def close(self) -> None:
        """Close the receivers. A fault of one is logged."""
        for name, receiver in self._receivers.items():
            try:
                await receiver.close()
            except Exception:
                log.exception("analytics.sink_fault", sink=name)

    async def _send(self, name: str, claimed: Sequence[ClaimedEvent]) -> bool:
        """Send those events that the receiver does not have. Return whether it has all of them now."""
        events = [one.event for one in claimed if name not in one.delivered]
        if not events:
            return True
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._receivers[name].send(events)
        except Exception as error:  # third-party code may raise anything
            ANALYTICS_EVENTS.labels(name, "failed").inc(len(events))
            self._outages[name].failed(error)
            return False
        ANALYTICS_EVENTS.labels(name, "sent").inc(len(events))
        self._outages[name].recovered()
        return True


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
