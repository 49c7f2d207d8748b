"""Sends messages to endpoints: claims the deliveries that are due, and sleeps until the next one is.

Every worker does this; SKIP LOCKED divides the work. The notification of the end of a run ends the
sleep. A lost one costs POLL_S at most. If the worker dies, its claims end after CLAIM_S, and another
one sends the messages again: a receiver recognises a repeat by its `webhook-id`.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from time import monotonic, time

import orjson
import structlog

from engine.errors import NodeFailure
from engine.metrics import DELIVERY_ATTEMPTS
from engine.nodes.http.client import GuardedHttp
from engine.notifications.message import next_pause, signed_headers
from engine.notifications.sender import TIMEOUT_S, Attempt, send
from persistence.db.database import Database
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS, retry_transient
from persistence.notifications import outbox
from persistence.notifications.outbox import ClaimedDelivery, FailedAttempt
from persistence.secrets.resolver import SecretResolver

log = structlog.get_logger(__name__)

POLL_S = 5.0
"""The longest sleep. It bounds the delay that a lost notification causes."""
CLAIM_S = TIMEOUT_S * 2
"""How long a claim lasts: longer than an attempt and its record."""
MAX_IN_FLIGHT = 64
"""Messages that one worker sends at once."""
PER_ENDPOINT = 8
"""Messages to one endpoint that one claim takes; no more are claimed while half of them are on their way."""
SPACING_S = 0.02
"""The shortest time between two rounds, however many runs end."""
PAUSE_S = 0.05
"""The pause if the deliveries that are due are in the hands of another worker."""
DRAIN_S = 2.0
"""How long the end of the worker waits for messages that are on their way."""


class DeliveryLoop:
    """The task of one worker that sends messages to endpoints."""

    def __init__(
        self, database: Database, http: GuardedHttp, secrets: SecretResolver, *, max_failing: timedelta
    ) -> None:
        """An endpoint that has failed for `max_failing` is disabled."""
        self._database, self._http, self._secrets = database, http, secrets
        self._max_failing_s = max_failing.total_seconds()
        self._changed = asyncio.Event()
        self._outage = Outage("deliveries")
        self._has_endpoints = True
        self._looked_at = float("-inf")
        """When the loop has looked for endpoints, by `monotonic`."""
        self._in_flight: dict[asyncio.Task[None], str] = {}
        """The endpoint of each message that is on its way."""

    def wake(self) -> None:
        """End the sleep: an endpoint or a delivery was changed, or messages may be missing."""
        self._looked_at = float("-inf")
        self._changed.set()

    def run_changed(self) -> None:
        """End the sleep if the change of a run may have added a delivery."""
        if self._has_endpoints:
            self._changed.set()

    async def deliver_forever(self) -> None:
        """Send what is due, again and again, until cancelled."""
        try:
            while True:
                await self._send_and_sleep()
        finally:
            await self._drain()

    async def _send_and_sleep(self) -> None:
        self._changed.clear()
        pause_s = POLL_S
        try:
            pause_s = min(await self.send_due(), POLL_S)
            self._outage.recovered()
        except DATABASE_ERRORS as error:
            self._outage.failed(error)
            pause_s = 1.0
        except Exception:
            log.exception("deliveries.round_failed")
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._changed.wait()
        await asyncio.sleep(SPACING_S)

    async def send_due(self) -> float:
        """Begin to send everything that is due and allowed now. Return the seconds until more is."""
        pool = self._database.pool
        if monotonic() - self._looked_at >= POLL_S:
            self._looked_at = monotonic()
            self._has_endpoints = await outbox.has_endpoints(pool)
            await outbox.end_disabled(pool)
        while (free := MAX_IN_FLIGHT - len(self._in_flight)) > 0:
            claimed = await outbox.claim(pool, free, PER_ENDPOINT, self._busy(), CLAIM_S)
            for one in claimed:
                task = asyncio.create_task(self._deliver(one), name=f"delivery {one.id}")
                self._in_flight[task] = one.endpoint_id
                task.add_done_callback(self._finished)
            if not claimed:
                break
        if free <= 0:
            return POLL_S  # The end of a message wakes the loop.
        seconds = await outbox.next_due_s(pool, self._busy())
        return POLL_S if seconds is None else max(seconds, PAUSE_S)

    def _busy(self) -> list[str]:
        counts = Counter(self._in_flight.values())
        return [endpoint_id for endpoint_id, count in counts.items() if count >= PER_ENDPOINT // 2]

    def _finished(self, task: "asyncio.Task[None]") -> None:
        del self._in_flight[task]
        if not task.cancelled() and (fault := task.exception()) is not None:
            # The claim ends by itself, and the message is sent again.
            log.error("deliveries.fault", exc_info=fault)
        self._changed.set()

    async def _deliver(self, one: ClaimedDelivery) -> None:
        attempt = await self._attempt(one)
        if attempt.error is None and attempt.status is not None:
            status = attempt.status
            DELIVERY_ATTEMPTS.labels("delivered").inc()
            await self._record(lambda: outbox.record_success(self._database.pool, one, status))
            return
        error, pause = attempt.error or "", next_pause(one.failures, attempt.retry_after_s)
        failed = FailedAttempt(attempt.status, error, pause, attempt.is_gone)
        is_over = pause is None or attempt.is_gone
        DELIVERY_ATTEMPTS.labels("failed" if is_over else "repeated").inc()
        is_disabled = await self._record(
            lambda: outbox.record_failure(self._database.pool, one, failed, self._max_failing_s)
        )
        log.info("deliveries.failed", delivery_id=one.id, attempt=one.attempt, error=error, is_over=is_over)
        if is_disabled:
            log.warning("endpoints.disabled", endpoint_id=one.endpoint_id, error=error)

    async def _attempt(self, one: ClaimedDelivery) -> Attempt:
        try:
            secret = (await self._secrets.resolve(one.project_id, [one.secret]))[one.secret]
        except NodeFailure as failure:
            return Attempt(None, f"the message cannot be signed: {failure.message}")
        body = orjson.dumps(one.payload)
        headers = signed_headers(secret, one.id, int(time()), body)
        return await send(self._http, one.url, headers, body)

    async def _record(self, write: Callable[[], Awaitable[bool]]) -> bool:
        """Write a result. A database that is away delays it; after CLAIM_S the message is sent again."""
        return await retry_transient(write, "deliveries")

    async def _drain(self) -> None:
        """Give the messages that are on their way a moment, and cancel the rest."""
        if not (tasks := set(self._in_flight)):
            return
        _, rest = await asyncio.wait(tasks, timeout=DRAIN_S)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
