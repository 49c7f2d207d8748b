"""The server process as an ASGI app with GraphQL, GraphiQL and probes, and its resources.

A server holds no run, so a crash ends only its connections. A call in progress
is one transaction; if its notification is lost, the recovery of the workers replaces it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from arq.connections import ArqRedis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from app.server.body_limit import BodyLimit
from app.server.connection_limits import ConnectionLimit, ConnectionLimits, RequestTurns
from app.server.cross_site import AllowedOrigins, Cors
from app.server.documents import TrustedDocuments
from app.server.endpoint import Endpoint
from app.server.exposed.guard import RequestGuard
from app.server.exposed.openapi import OpenApiRoute
from app.server.exposed.runs import RunRoutes
from app.server.hooks.callbacks import callback_routes
from app.server.hooks.routes import hook_routes
from app.server.hosts import AllowedHosts
from app.server.lifespan import OneLineStartupErrors
from app.server.rate_limits import RateLimits
from app.server.responses import not_served
from app.server.sign_in.auth import Auth, open_auth
from app.server.sign_in.revocations import Revocations
from app.server.sign_in.routes import SignInRoutes
from app.server.sign_in.sessions import SessionLimit, sign_in, sign_in_socket
from app.server.telemetry.metrics import MetricsEndpoint
from app.server.telemetry.probes import Probes
from app.server.telemetry.request_ids import RequestIds
from app.settings import Settings
from engine.isolation.computation import switch_often
from engine.nodes.registry import load_node_types
from engine.nodes.resources import open_resources
from engine.release import VERSION
from engine.sdk.node_types import NodeTypes
from persistence.caller import Caller, CallerKind
from persistence.db.database import Database
from persistence.db.deadlines import Deadlines
from persistence.db.pool_metrics import show_pools, show_redis_pools
from persistence.db.transient import connect_at_start
from persistence.feed.feed import Feed
from persistence.queue.arq_pool import open_arq
from persistence.queue.notifier import Notifier
from persistence.runs.queue_limit import QueueLimit, megabytes
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from persistence.signals.callback import CallbackSigner
from persistence.sql_databases import open_databases
from persistence.workflows import projects
from resolvers.context import Context
from resolvers.idempotent import finish_shielded
from resolvers.policy import OperationPolicy, SubscriptionLimit
from resolvers.runs.bulk import work_forever
from web.site import routes as page_routes
from worker.gc_tuning import FrozenObjects, frozen_objects
from worker.resource_options import resource_options

log = structlog.get_logger(__name__)

IDLE_S = 10.0
"""Seconds without a connection after which nobody is expected at once. Between two requests of a client
nobody is connected either."""
RELEASE_S = 30.0
"""Seconds between two looks at the objects that garbage collections leave out."""
SETTLE_S = 5.0
"""Seconds that a stopping server waits for calls whose clients have disconnected.

Recovery completes the rest.
"""


class ServerApp:
    """The resources of a server process, open between its start and its stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.limits = ConnectionLimits(settings.connections_per_caller, settings.connections_per_address)
        self.database: Database
        self.redis: ArqRedis
        self.feed: Feed
        self.notifier: Notifier
        self.auth: Auth
        self.revocations: Revocations
        self.resources: dict[str, Any]
        self.probes, self.metrics = Probes(self), MetricsEndpoint(self)
        self._queue_limit = QueueLimit(settings.project_queue_limit, megabytes(settings.project_storage_mb))
        self._policy = OperationPolicy()
        self.node_types: NodeTypes = load_node_types(self._settings.sandbox_max_timeout_s)

    @asynccontextmanager
    async def open(self, _: Starlette) -> AsyncIterator[None]:
        """Open all resources, waiting for stores that are starting; close them in reverse order."""
        switch_often()
        async with AsyncExitStack() as stack:
            self.database = await connect_at_start(self._open_database)
            stack.push_async_callback(self.database.close)
            show_pools(self.database.engine, {"hot": self.database.pool})
            self.redis = open_arq(_required(self._settings.redis_url))
            stack.push_async_callback(self.redis.aclose)
            show_redis_pools({"commands": self.redis})
            self._policy = self._make_policy()
            self.feed = Feed(self.database, self.redis)
            stack.push_async_callback(self.feed.close)
            self.notifier = Notifier(self.redis, self._settings.queue_name)
            self.revocations = Revocations(self.database, self.feed)
            await stack.enter_async_context(self.revocations.running())
            self.resources = await stack.enter_async_context(self._open_resources())
            keys = self.resources["secrets"].keys
            self.auth = await stack.enter_async_context(open_auth(self._settings, self.database, self.redis, keys))
            await connect_at_start(self._ensure_project)
            stack.push_async_callback(finish_shielded, SETTLE_S)
            for task in (
                asyncio.create_task(self.probes.watch_workers(), name="workers"),
                asyncio.create_task(
                    work_forever(self.context_of, self.context_of(Caller("bulk jobs", {}))), name="bulk jobs"
                ),
                asyncio.create_task(self._release_frozen(stack.enter_context(frozen_objects())), name="memory"),
            ):
                stack.push_async_callback(_stop, task)
            log.info("server.ready", version=VERSION, host=self._settings.host, port=self._settings.port)
            yield

    async def _release_frozen(self, frozen: FrozenObjects) -> None:
        while True:
            await asyncio.sleep(RELEASE_S)
            if frozen.release(is_idle=self.limits.idle_s > IDLE_S):
                log.debug("server.memory_released")

    async def _open_database(self) -> Database:
        url, deadlines = _required(self._settings.database_url), Deadlines(*self._settings.deadlines)
        return await Database.open(url, deadlines)

    async def _ensure_project(self) -> None:
        async with self.database.begin() as connection:
            await projects.ensure_default(connection)

    async def context(self, request: Request | WebSocket) -> Context:
        """Create the resolvers' context of one request or socket.

        Raises:
            Unauthenticated: The caller is unknown.
            TooManyConnections: The caller has too many connections open.
        """
        caller, on_sign_in = await sign_in(self.auth, request)

        def count(signed_in: Caller) -> None:
            self.limits.hold_caller(request.scope, signed_in.subject)
            on_sign_in(signed_in)

        if caller.kind is not CallerKind.UNKNOWN:
            self.limits.hold_caller(request.scope, caller.subject)
        context = self.context_of(caller)
        context.on_sign_in = count
        return context

    def context_of(self, caller: Caller) -> Context:
        """Create the context of a caller who is known already, such as that of a trigger."""
        return Context(
            caller,
            self.database,
            self.node_types,
            self.redis,
            self.notifier,
            self.feed,
            resources=self.resources,
            queue_limit=self._queue_limit,
            policy=self._policy,
            public_url=self._settings.public_address,
        )

    def _make_policy(self) -> OperationPolicy:
        settings = self._settings
        rates = RateLimits(self.redis, settings.queue_name, settings.rate_per_caller, settings.rate_per_address)
        subscriptions = SubscriptionLimit(settings.subscriptions_per_caller)
        return OperationPolicy(
            settings.introspection, settings.operation_s, rates, subscriptions, settings.project_limit
        )

    async def sign_in(self, context: Context) -> None:
        """Sign the caller of a socket in, after its `connection_init`. Raises Unauthenticated."""
        await sign_in_socket(self.auth, context)

    @asynccontextmanager
    async def _open_resources(self) -> AsyncIterator[dict[str, Any]]:
        """Open the resources of nodes, which catalogs and node tests use.

        Sandboxes start on demand.
        """
        options = resource_options(self._settings, sandbox_ready=0)
        secrets = await connect_at_start(lambda: open_secrets(self.database, KeySource.of(self._settings)))
        own = {"secrets": secrets, "callbacks": CallbackSigner(secrets.keys, self._settings.public_address)}
        async with (
            open_databases(options.catalog.sql) as databases,
            open_resources(options, {"databases": databases, **own}) as resources,
        ):
            yield resources


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _required(url: str | None) -> str:
    if url is None:
        raise ValueError("a server needs TREADLE_DATABASE_URL and TREADLE_REDIS_URL; `treadle up` sets both")
    return url


def create_app(settings: Settings) -> Starlette:
    """Create the ASGI app of a server. The lifespan protocol opens its resources."""
    server = ServerApp(settings)
    init_timeout = timedelta(seconds=settings.socket_init_s)
    endpoint = Endpoint(
        server.context,
        server.sign_in,
        AllowedOrigins(settings.origins),
        init_timeout,
        TrustedDocuments.read(settings.documents, settings.documents_file),
        has_page=settings.graphiql,
    )
    guard = RequestGuard(server.context, AllowedOrigins(settings.origins))
    return Starlette(
        routes=[
            *server.probes.routes(),
            Route("/metrics", server.metrics.respond),
            *_graphql_routes(server, endpoint),
            *SignInRoutes(lambda: server.auth, settings.public_address, AllowedOrigins(settings.origins)).routes(),
            *(page_routes(with_studio=settings.studio) if settings.studio or settings.graphiql else ()),
            *OpenApiRoute(guard, settings.public_address).routes(),
            *RunRoutes(guard, settings.public_address).routes(),
            *hook_routes(server.context_of),
            *callback_routes(server.context_of),
        ],
        middleware=[
            Middleware(OneLineStartupErrors),
            Middleware(RequestTurns),
            Middleware(RequestIds),
            Middleware(AllowedHosts, hosts=_allowed_hosts(settings)),
            Middleware(ConnectionLimit, limits=server.limits),
            Middleware(Cors, origins=settings.origins),
            Middleware(BodyLimit, max_s=settings.request_s),
        ],
        exception_handlers={HTTPException: not_served},
        lifespan=server.open,
    )


def _allowed_hosts(settings: Settings) -> list[str]:
    """Return the accepted hosts: by default any with sign-in, as pages of other sites have no token."""
    return ["*"] if settings.has_sign_in and not settings.hosts else [settings.host, *settings.hosts]


def _graphql_routes(server: ServerApp, endpoint: Endpoint) -> list[BaseRoute]:
    limited = SessionLimit(endpoint, lambda: server.revocations)
    return [Route("/graphql", limited), WebSocketRoute("/graphql", limited)]
