"""/metrics of a server: the metrics of its process, and those that it reads from the database.

With sign-in, it needs a token or an API key, of any role.
"""

import asyncio
import math
import time
from typing import Protocol

import structlog
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from app.server.sign_in.auth import Auth, authorization_of
from app.server.sign_in.challenge import unauthenticated_response
from engine.metrics import (
    DELIVERIES_PENDING,
    KEPT_EVENTS,
    QUEUE_DEPTH,
    QUEUE_OLDEST_SECONDS,
    REGISTRY,
    RUNS_ACTIVE,
    TRIGGER_LAG_SECONDS,
    WORKERS_LIVE,
)
from engine.states import RunStatus
from persistence.db.database import Database
from persistence.db.transient import DATABASE_ERRORS
from persistence.maintenance.backlog import Backlog, read_backlog
from persistence.maintenance.presence import count_live
from persistence.problems import Unauthenticated
from persistence.queue.depth import QueueState, queue_state

log = structlog.get_logger(__name__)

FRESH_S = 2.0
"""Seconds for which a look at the database is used again, however many scrapers ask."""
DATABASE_S = 5.0
"""Seconds that the database has to respond. After them its metrics have no value."""
OF_DATABASE = (
    QUEUE_DEPTH,
    QUEUE_OLDEST_SECONDS,
    WORKERS_LIVE,
    TRIGGER_LAG_SECONDS,
    KEPT_EVENTS,
    DELIVERIES_PENDING,
)
"""The gauges that have no value while the database does not respond."""


class MeteredStores(Protocol):
    """The database and the sign-in of the process, open while it serves."""

    database: Database
    auth: Auth


class MetricsEndpoint:
    """The endpoint /metrics of one process."""

    def __init__(self, stores: MeteredStores) -> None:
        self._stores = stores
        self._refreshing = asyncio.Lock()
        self._refreshed_at = -math.inf

    async def respond(self, request: Request) -> Response:
        """Respond in the text format of Prometheus, or in OpenMetrics if it is accepted."""
        try:
            if self._stores.auth.needs_token:
                await self._stores.auth.caller(authorization_of(request), None)
        except Unauthenticated as problem:
            return unauthenticated_response(problem)
        async with self._refreshing:
            if time.monotonic() - self._refreshed_at > FRESH_S:
                await self._refresh()
                self._refreshed_at = time.monotonic()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def _refresh(self) -> None:
        pool = self._stores.database.pool
        try:
            async with asyncio.timeout(DATABASE_S):
                _show(await queue_state(pool), await count_live(pool), await read_backlog(pool))
        except DATABASE_ERRORS as error:
            log.debug("metrics.database_away", error=str(error) or type(error).__name__)
            for gauge in OF_DATABASE:
                gauge.set(math.nan)
            RUNS_ACTIVE.clear()


def _show(queue: QueueState, workers: int, backlog: Backlog) -> None:
    for status in RunStatus:
        if not status.is_terminal:
            RUNS_ACTIVE.labels(status.value).set(queue.counts.get(status, 0))
    QUEUE_DEPTH.set(queue.counts.get(RunStatus.QUEUED, 0))
    QUEUE_OLDEST_SECONDS.set(queue.oldest_s)
    WORKERS_LIVE.set(workers)
    TRIGGER_LAG_SECONDS.set(backlog.trigger_lag_s)
    KEPT_EVENTS.set(backlog.kept_events)
    DELIVERIES_PENDING.set(backlog.pending_deliveries)
