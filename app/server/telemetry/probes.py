"""Probes of a server: /ping, /livez, /readyz and /health, and the watch for live workers.

A probe reads and changes nothing. None of them needs sign-in, and none counts as a connection.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from engine.release import VERSION
from persistence.db.database import Database
from persistence.db.migrate import NEWEST, has_newest
from persistence.db.outage import Outage
from persistence.db.transient import DATABASE_ERRORS
from persistence.maintenance.presence import count_live

log = structlog.get_logger(__name__)
ResultT = TypeVar("ResultT")

RESPONSE_S = 2.0
"""Seconds that a store has to respond. After them a probe reports it as down."""
WATCH_S = 5.0
"""Seconds between two looks for a live worker. A worker that starts with the server has that time."""
NO_WORKER = "no worker is alive, so runs stay QUEUED: start `treadle worker`, or look at the log of the last one"


class Stores(Protocol):
    """The stores of the process, open while it serves."""

    database: Database
    redis: Any


class Probes:
    """The probes of one server process."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._database_outage, self._redis_outage = Outage("health.database"), Outage("health.redis")
        self._worker_outage = Outage("workers")
        self._looks: dict[Callable[[], Any], asyncio.Task[Any]] = {}
        """The looks at the stores that are under way."""

    def routes(self) -> list[Route]:
        return [
            Route("/ping", self.ping),
            Route("/livez", self.livez),
            Route("/readyz", self.readyz),
            Route("/health", self.health),
        ]

    async def ping(self, _: Request) -> Response:
        """Respond with `pong`: the process answers."""
        return PlainTextResponse("pong", headers=_NO_STORE)

    async def livez(self, _: Request) -> Response:
        """Respond with 200: the event loop of the process turns. It looks at nothing else."""
        return JSONResponse({"status": "ok", "version": VERSION}, headers=_NO_STORE)

    async def readyz(self, _: Request) -> Response:
        """Respond with 200 if a run would be accepted and executed now, and else with 503."""
        problems, workers = await self._shared(self._problems)
        body = {"status": "not ready" if problems else "ready", "version": VERSION, "workers": workers}
        return JSONResponse({**body, "problems": problems}, status_code=503 if problems else 200, headers=_NO_STORE)

    async def _problems(self) -> tuple[list[str], int | None]:
        """Return what is missing, and the number of live workers; None if it is unknown."""
        if not await self._shared(self._database_is_up):
            return ["the database does not respond: is Postgres running, and is TREADLE_DATABASE_URL right?"], None
        try:
            async with asyncio.timeout(RESPONSE_S):
                if not await has_newest(self._stores.database.pool):
                    return [f"the database lacks migrations up to {NEWEST}: run `treadle migrate`"], None
                workers = await count_live(self._stores.database.pool)
        except DATABASE_ERRORS as error:
            self._database_outage.failed(error)
            return ["the database does not respond: it answered a moment ago"], None
        return ([] if workers else [NO_WORKER]), workers

    async def health(self, _: Request) -> Response:
        """Respond to /health: 503 without Postgres; 200 without Redis, as runs are only slower."""
        database, redis = await asyncio.gather(self._shared(self._database_is_up), self._shared(self._redis_is_up))
        stores = {"database": _status(database), "redis": _status(redis)}
        down = [name for name, status in stores.items() if status == "down"]
        body: dict[str, Any] = {"status": "degraded" if down else "ok", "version": VERSION, "down": down, **stores}
        return JSONResponse(body, status_code=200 if database else 503)

    async def _shared(self, look: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Look at a store, or await the look that is under way.

        Anybody may request a probe, as often as they like: many requests need one connection.
        """
        task: asyncio.Task[ResultT] | None = self._looks.get(look)
        if task is None:
            task = self._looks[look] = asyncio.create_task(look())
            task.add_done_callback(lambda _: self._looks.pop(look))
        return await asyncio.shield(task)

    async def _database_is_up(self) -> bool:
        try:
            async with asyncio.timeout(RESPONSE_S), self._stores.database.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except Exception as error:  # Any error means that the database cannot be read.
            self._database_outage.failed(error)
            return False
        self._database_outage.recovered()
        return True

    async def _redis_is_up(self) -> bool:
        redis: Redis = self._stores.redis
        try:
            async with asyncio.timeout(RESPONSE_S):
                is_up = bool(await redis.ping())
        except (OSError, RedisError, TimeoutError) as error:
            self._redis_outage.failed(error)
            return False
        self._redis_outage.recovered()
        return is_up

    async def watch_workers(self, interval_s: float = WATCH_S) -> None:
        """Log `workers.away` when the last worker is gone, and `workers.back` when one is alive."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                async with asyncio.timeout(RESPONSE_S):
                    workers = await count_live(self._stores.database.pool)
            except DATABASE_ERRORS as error:
                log.debug("workers.unknown", error=str(error) or type(error).__name__)
                continue
            if workers:
                self._worker_outage.recovered()
            else:
                self._worker_outage.failed(LookupError(NO_WORKER))


_NO_STORE = {"Cache-Control": "no-store"}


def _status(is_up: bool) -> str:
    return "up" if is_up else "down"
