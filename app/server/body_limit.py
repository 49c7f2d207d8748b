"""ASGI middleware that refuses request bodies above a size limit, before they are read completely.

The response is a GraphQL error with code LIMIT.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.responses import problem_response
from persistence.problems import Limit

MAX_BODY = 4 * 1024 * 1024
"""Bytes. A spec and an input of 1 MiB each, their own limits, fit with all JSON escapes."""


class BodyLimit:
    """Limits the size of HTTP request bodies to `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY) -> None:
        self._app, self._max = app, max_bytes
        self._message = f"The request is larger than {max_bytes:,} bytes."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        content_length = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if content_length.isdigit() and int(content_length) > self._max:
                raise Limit(self._message)
            await self._app(scope, self._counted(receive), send)
        except Limit as limit:
            await problem_response(limit.status, limit.code, limit.detail)(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max:
                raise Limit(self._message)
            return message

        return receive_counted
