"""ASGI middleware that ends sockets and event streams when the token of their caller ends.

A socket closes with 4403; its client connects again with a new token and continues by `seq`. A
response that is no stream is sent completely.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.sign_in.auth import Auth, authorization_in, authorization_of
from app.server.sign_in.challenge import FORBIDDEN_CLOSE
from app.server.sign_in.revocations import Revocations
from persistence.caller import Caller, CallerKind
from persistence.problems import Unauthenticated
from resolvers.context import Context

SESSION = "treadle.session"
"""The key of the `CallerSession` in the ASGI scope."""
CHECK_S = 30.0
"""Seconds until the clock is read again: it may be set while a session is open."""
REVOKED = "The API key was revoked or has expired: connect again with another one."
SESSION_OVER = "The session has expired or was ended: connect again, and continue by seq."
EXPIRED = "The token has expired: connect again with a new one, and continue by seq."
CREDENTIALS = (b"authorization", b"cookie")
STREAMS = (b"text/event-stream", b"multipart/mixed")


class CallerSession:
    """One request or socket. `sign_in` is called when its caller is known."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._caller: Caller | None = None

    def sign_in(self, caller: Caller) -> None:
        """Set or replace the caller. The end of the last token counts."""
        self._caller = caller
        self._changed.set()

    async def until_ended(self, revocations: Revocations) -> str:
        """Wait until the token of the caller ends, and return why. Without an end, wait forever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            caller = self._caller
            if caller is not None and caller.credential_id is not None:
                with revocations.watch(caller.credential_id) as ended:
                    await ended.wait()
                return SESSION_OVER if caller.kind is CallerKind.SESSION else REVOKED
            if caller is not None and caller.expires_at is not None and await self._is_over(caller.expires_at):
                return EXPIRED

    async def _is_over(self, end: datetime) -> bool:
        """Wait until `end`, or until the caller is replaced; return whether `end` has passed."""
        while (remaining_s := end.timestamp() - time.time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(remaining_s, CHECK_S)):
                    await self._changed.wait()
                return False
        return True


async def sign_in(auth: Auth, connection: HTTPConnection) -> tuple[Caller, Callable[[Caller], None]]:
    """Return the caller of a request or socket, and what to call if the caller is replaced.

    The Authorization header comes before the session cookie. A socket with neither has an unknown caller until
    `connection_init`.

    Raises:
        Unauthenticated: The caller is unknown.
    """
    session: CallerSession = connection.scope.get(SESSION) or CallerSession()
    address = connection.client.host if connection.client else None
    authorization = authorization_of(connection)
    cookie = auth.cookie_of(connection) if authorization is None else None
    is_socket = connection.scope["type"] == "websocket"
    if cookie is not None:
        try:
            caller = await auth.caller_of_cookie(cookie, address)
        except Unauthenticated:
            if not is_socket:
                raise
            caller = Caller("unknown", {}, kind=CallerKind.UNKNOWN, address=address)
    elif authorization is None and is_socket and auth.needs_token:
        caller = Caller("unknown", {}, kind=CallerKind.UNKNOWN, address=address)
    else:
        caller = await auth.caller(authorization, address)
    if caller.kind is CallerKind.UNKNOWN:
        return caller, session.sign_in
    session.sign_in(caller)
    return caller, session.sign_in


async def sign_in_socket(auth: Auth, context: Context) -> None:
    """Sign the caller of a socket in by its `connection_init`, which precedes the Authorization header.

    Raises:
        Unauthenticated: The caller is unknown.
    """
    authorization = authorization_in(context.connection_params or {})
    if authorization is not None or context.caller.kind is CallerKind.UNKNOWN:
        context.sign_in(await auth.caller(authorization, context.caller.address))


class SessionLimit:
    """Ends a socket or an event stream at the end of its caller's token."""

    def __init__(self, app: ASGIApp, revocations: Callable[[], Revocations]) -> None:
        """`revocations` returns those of the running server."""
        self._app, self._revocations = app, revocations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["type"] == "http" and any(name in CREDENTIALS for name, _ in scope["headers"]):
            await self._request(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope[SESSION] = CallerSession()
        is_closed = False

        async def send_while_open(message: Message) -> None:
            nonlocal is_closed
            if is_closed:
                # Servers of ASGI raise OSError for messages after a disconnect.
                raise OSError("the socket was closed at the end of its token")
            is_closed = message["type"] == "websocket.close"
            await send(message)

        async def close_at_end() -> None:
            reason = await session.until_ended(self._revocations())
            with suppress(OSError):
                await send_while_open({"type": "websocket.close", "code": FORBIDDEN_CLOSE, "reason": reason})

        watch = asyncio.create_task(close_at_end())
        try:
            await self._app(scope, receive, send_while_open)
        finally:
            await _stop(watch)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope[SESSION] = CallerSession()
        is_stream = asyncio.Event()

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_stream(message):
                is_stream.set()
            await send(message)

        async def end_of_stream() -> None:
            await is_stream.wait()
            await session.until_ended(self._revocations())

        response = asyncio.ensure_future(self._app(scope, receive, watched_send))
        watch = asyncio.create_task(end_of_stream())
        try:
            await asyncio.wait({response, watch}, return_when=asyncio.FIRST_COMPLETED)
            if response.done():
                response.result()
                return
            await _stop(response)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await _stop(watch)
            await _stop(response)


async def _stop(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _is_stream(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(STREAMS) for name, value in message["headers"])
