"""ASGI middleware that limits the size of request bodies, and the time in which they arrive.

A body is refused as soon as it exceeds a limit, with a GraphQL error of the code LIMIT.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.responses import problem_response
from persistence.problems import Limit

MAX_BODY = 4 * 1024 * 1024
"""Bytes. A spec and an input of 1 MiB each, their own limits, fit with all JSON escapes."""


class SlowBody(Limit):
    """The body of a request has not arrived in time."""

    title, status = "Request timeout", 408


class BodyLimit:
    """Limits HTTP request bodies to `max_bytes`, which must arrive in `max_s` seconds."""

    def __init__(self, app: ASGIApp, max_s: float, max_bytes: int = MAX_BODY) -> None:
        self._app, self._max, self._max_s = app, max_bytes, max_s
        self._message = f"The request is larger than {max_bytes:,} bytes."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        content_length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        try:
            if content_length.isdigit() and int(content_length) > self._max:
                raise Limit(self._message)
            await self._app(scope, self._counted(receive), send)
        except Limit as limit:
            await problem_response(limit.status, limit.code, limit.detail)(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        received, is_complete = 0, False
        deadline = asyncio.get_running_loop().time() + self._max_s

        async def receive_counted() -> Message:
            nonlocal received, is_complete
            if is_complete:  # What follows is the end of the connection.
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise SlowBody(f"The body of the request has not arrived within {self._max_s:g} s.") from None
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if received > self._max:
                raise Limit(self._message)
            return message

        return receive_counted
