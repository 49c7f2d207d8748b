"""ASGI middleware that gives each request an id: `X-Request-Id` of the client, or a new one.

The id is in the header of the response, in the `extensions` of errors, and in every log line of the
request. All operations of a WebSocket have the id of its handshake. With tracing, the trace of the
client goes on (W3C Trace Context).
"""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from engine import tracing
from persistence.db.ids import new_id
from schema.errors import REQUEST_ID

HEADER = "x-request-id"
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:/+=@-]{0,127}")
"""Ids that are accepted. A longer one, or one with other characters, is replaced by a new one."""
STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
"""The messages that carry the headers of a response."""


class RequestIds:
    """Binds the id of each request to the context of its task, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = accepted_id(headers.get(HEADER)) or new_request_id()
        header = HEADER.encode(), request_id.encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] in STARTS:
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        with bound_contextvars(**{REQUEST_ID: request_id}), tracing.remote_parent(headers):
            await self._app(scope, receive, send_with_id)


def accepted_id(text: str | None) -> str | None:
    """Return the id that a client has sent; None if there is none, or it is not safe to repeat."""
    return text if text is not None and SAFE.fullmatch(text) else None


def new_request_id() -> str:
    return new_id("req")
