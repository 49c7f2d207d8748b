"""The server process: opens what resolvers need, serves GraphQL, the page and /health, and closes it all again.

It holds no run: a server that dies takes only its connections with it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from app.server.auth import Auth, LocalAuth
from app.server.body_limit import BodyLimit
from app.server.endpoint import Endpoint
from app.server.lifespan import OneLineStartupErrors
from app.settings import Settings
from engine.nodes.registry import load_node_types
from engine.nodes.resources import open_resources
from engine.sdk.node_types import NodeTypes
from persistence.db.database import Database
from persistence.db.deadlines import Deadlines
from persistence.db.transient import opened
from persistence.feed.feed import Feed
from persistence.queue.notifier import Notifier
from persistence.secrets.key_source import Keys
from persistence.secrets.resolver import open_secrets
from persistence.sql_databases import open_databases
from persistence.workflows import projects
from resolvers.context import Context
from resolvers.idempotent import settled
from web.site import routes as page_routes
from worker.resource_options import options_of

log = structlog.get_logger(__name__)

SETTLE_S = 5.0
"""For what was begun for callers that are gone; whatever is not over then, recovery finds."""
HEALTH_S = 2.0
"""A store that takes longer to answer is down, as far as /health is concerned."""
LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
"""Without sign-in, a page of another site must not reach us by a name of its own that points here."""


class ServerApp:
    """The long-lived things of this process, open between start and stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.database: Database
        self.redis: ArqRedis
        self.feed: Feed
        self.queue: Notifier
        self.auth: Auth
        self.resources: dict[str, Any]
        self.node_types: NodeTypes = load_node_types()

    @asynccontextmanager
    async def open(self, _: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            self.database = await opened(self._open_database)
            stack.push_async_callback(self.database.close)
            self.redis = ArqRedis.from_url(_needed(self._settings.redis_url))
            stack.push_async_callback(self.redis.aclose)
            self.feed = Feed(self.database, self.redis)
            stack.push_async_callback(self.feed.close)
            self.queue = Notifier(self.redis, self._settings.queue_name)
            self.auth = LocalAuth(self.database)
            self.resources = await stack.enter_async_context(self._open_resources())
            await opened(self._ensure_project)
            stack.push_async_callback(settled, SETTLE_S)
            log.info("server.ready", host=self._settings.host, port=self._settings.port)
            yield

    async def _open_database(self) -> Database:
        url, deadlines = _needed(self._settings.database_url), Deadlines(*self._settings.deadlines)
        return await Database.open(url, deadlines)

    async def _ensure_project(self) -> None:
        async with self.database.begin() as connection:
            await projects.ensure_default(connection)

    async def context(self, request: Request | WebSocket) -> Context:
        caller = await self.auth.caller(request.headers)
        return Context(
            caller, self.database, self.node_types, self.redis, self.queue, self.feed, resources=self.resources
        )

    @asynccontextmanager
    async def _open_resources(self) -> AsyncIterator[dict[str, Any]]:
        """What nodes reach, for the catalogs; no sandbox is started before one is needed."""
        options = options_of(self._settings, sandbox_ready=0)
        secrets = await opened(lambda: open_secrets(self.database, Keys.of(self._settings)))
        async with (
            open_databases(options.catalog.sql) as databases,
            open_resources(options, {"databases": databases, "secrets": secrets}) as resources,
        ):
            yield resources

    async def health(self, _: Request) -> Response:
        """503 without Postgres. Without Redis runs are only slower: 200, and it is named."""
        database, redis = await asyncio.gather(self._database_is_up(), self._redis_is_up())
        stores = {"database": _word(database), "redis": _word(redis)}
        down = [name for name, word in stores.items() if word == "down"]
        body: dict[str, Any] = {"status": "degraded" if down else "ok", "down": down, **stores}
        return JSONResponse(body, status_code=200 if database else 503)

    async def _database_is_up(self) -> bool:
        try:
            async with asyncio.timeout(HEALTH_S), self.database.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except Exception as error:  # Whatever it is: nothing could be read.
            log.warning("health.database_down", error=str(error) or type(error).__name__)
            return False
        return True

    async def _redis_is_up(self) -> bool:
        try:
            async with asyncio.timeout(HEALTH_S):
                return bool(await self.redis.ping())
        except (OSError, RedisError, TimeoutError) as error:
            log.warning("health.redis_down", error=str(error) or type(error).__name__)
            return False


def _word(is_up: bool) -> str:
    return "up" if is_up else "down"


def _needed(url: str | None) -> str:
    if url is None:
        raise ValueError("a server needs TREADLE_DATABASE_URL and TREADLE_REDIS_URL; `treadle up` sets both")
    return url


def create_app(settings: Settings) -> Starlette:
    server = ServerApp(settings)
    endpoint = Endpoint(server.context)
    return Starlette(
        routes=[Route("/health", server.health), *_graphql(endpoint), *page_routes()],
        middleware=[
            Middleware(OneLineStartupErrors),
            Middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL_HOSTS, settings.host], www_redirect=False),
            Middleware(BodyLimit),
        ],
        lifespan=server.open,
    )


def _graphql(endpoint: Endpoint) -> list[BaseRoute]:
    return [Route("/graphql", endpoint), WebSocketRoute("/graphql", endpoint)]
