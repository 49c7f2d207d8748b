"""Limits of open connections per caller and per address, so that nobody takes a server from others.

A WebSocket counts while it is open, and an HTTP request until its response is complete: a
subscription over Server-Sent Events, or a body that arrives slowly, holds a connection too. The
numbers are of this process. Requests begin in turns by address. Nothing is stored.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

from app.server.body_limit import address_of
from app.server.responses import problem_response
from app.server.websockets import MAX_REASON
from engine.isolation.loop_share import LoopShares
from engine.isolation.turns import Owner
from engine.metrics import CONNECTIONS
from persistence.problems import Limit

HELD = "treadle.connection"
"""The key of the scope for the ExitStack that ends with the connection."""
CALLERS = "treadle.callers"
"""The key of the scope for the callers that a connection counts for."""
EXEMPT = ("/health", "/ping", "/livez", "/readyz", "/metrics")
"""Probes and metrics, which must not fail because many clients are connected."""

SLICE_S = 0.002
"""Seconds of CPU time in one pass after which no further request begins. A small one takes 0.3 ms."""
WOKEN = 16
"""Requests that are woken in one pass; most of them find the slice used up."""


class TooManyConnections(Limit):
    """A caller or an address has the maximum number of connections open.

    The same request succeeds after one of them has ended.
    """

    title, status = "Too many connections", 429


class ConnectionLimits:
    """Counts the open connections of this process by caller and by address."""

    def __init__(self, per_caller: int, per_address: int) -> None:
        self._limits = {"caller": per_caller, "address": per_address}
        self._open: Counter[tuple[str, str]] = Counter()
        self._last_end = monotonic()

    @contextmanager
    def hold(self, kind: str, name: str) -> Iterator[None]:
        """Count a connection for the duration of the block. Raises TooManyConnections.

        Args:
            kind: `caller` or `address`.
            name: The subject of the caller, or the IP address.
        """
        key, limit = (kind, name), self._limits[kind]
        if self._open[key] >= limit:
            variable = f"TREADLE_CONNECTIONS_PER_{kind.upper()}"
            raise TooManyConnections(
                f"{limit} connections of this {kind} are open, which is the limit ({variable}). Close one first."
            )
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            self._last_end = monotonic()
            if not self._open[key]:
                del self._open[key]

    @property
    def idle_s(self) -> float:
        """The seconds for which nobody has been connected; probes do not count. 0: somebody is."""
        return 0.0 if self._open else monotonic() - self._last_end

    def hold_caller(self, scope: Scope, subject: str) -> None:
        """Count a connection for its caller until it ends. Raises TooManyConnections.

        A socket that signs in again as the same caller counts once.
        """
        stack: ExitStack | None = scope.get(HELD)
        callers: set[str] = scope.setdefault(CALLERS, set())
        if stack is not None and subject not in callers:
            callers.add(subject)
            stack.enter_context(self.hold("caller", subject))


class ConnectionLimit:
    """ASGI middleware that refuses connections above the limit of their address.

    An HTTP request gets the status 429. A WebSocket is accepted and closed with the code 1013, "try
    again later", since browsers do not show the status of a refused handshake.
    """

    def __init__(self, app: ASGIApp, limits: ConnectionLimits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in EXEMPT:
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        with ExitStack() as stack:
            try:
                stack.enter_context(self._limits.hold("address", client[0] if client else "unknown"))
            except TooManyConnections as limit:
                await _refuse(limit, scope, receive, send)
                return
            scope[HELD] = stack
            with CONNECTIONS.labels(scope["type"]).track_inprogress():
                await self._app(scope, receive, send)


async def _refuse(limit: TooManyConnections, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await problem_response(limit.status, limit.code, limit.detail)(scope, receive, send)
        return
    socket = WebSocket(scope, receive, send)
    with suppress(WebSocketDisconnect):
        await socket.accept(GRAPHQL_TRANSPORT_WS_PROTOCOL)
        await socket.close(1013, limit.detail[:MAX_REASON])


class RequestTurns:
    """ASGI middleware that begins few requests in each pass of the event loop, and takes turns by address.

    A client may send requests on many connections as fast as they are answered. All of them would be ready in
    the same pass, so each step of every other request would wait for all of them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._shares = app, LoopShares(SLICE_S, WOKEN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            share = self._shares.running()
            if share.is_used_up:
                address = address_of(scope)
                await share.turn(Owner(address, address))
        await self._app(scope, receive, send)
