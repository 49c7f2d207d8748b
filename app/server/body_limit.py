"""Refuses a body that is too large, before it is read whole; the answer is a problem like any other."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.error_responses import problem_response
from persistence.problems import Limit

MAX_BODY = 4 * 1024 * 1024
"""Room for the largest spec and the largest input with all their escapes; their own limits are 1 MiB each."""


class BodyLimit:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY) -> None:
        self._app, self._max = app, max_bytes
        self._message = f"The request is larger than {max_bytes:,} bytes."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if announced.isdigit() and int(announced) > self._max:
                raise Limit(self._message)
            await self._app(scope, self._counted(receive), send)
        except Limit as too_large:
            await problem_response(too_large.status, too_large.code, too_large.detail)(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max:
                raise Limit(self._message)
            return message

        return counted
