"""graphql-transport-ws as its protocol has it: a wrong message closes its socket with the code for that, and nothing else.

An operation that is wrong ends alone, with an error under its id: the others of its socket go on. Who goes away in the
middle is no fault of ours, and is not logged as one.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from graphql import GraphQLError
from starlette.websockets import WebSocketDisconnect
from starlette.websockets import WebSocketDisconnected as SentTooLate
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ErrorMessage

from persistence.problems import ProblemCode
from resolvers.context import Context

log = structlog.get_logger(__name__)

MAX_OPERATIONS = 100
"""Under way on one socket: subscriptions, and queries and mutations that have not been answered yet."""
MAX_REASON = 123
"""Bytes that a close frame has room for."""
TOO_MANY = GraphQLError(
    f"{MAX_OPERATIONS} operations are under way on this socket, and no more can be. Complete one first.",
    extensions={"code": ProblemCode.LIMIT, "limit": MAX_OPERATIONS},
)
GONE = (WebSocketDisconnect, SentTooLate)


class Socket(ASGIWebSocketAdapter):
    async def send_json(self, message: Mapping[str, object]) -> None:
        try:
            await super().send_json(message)
        except SentTooLate as gone:
            raise WebSocketDisconnected from gone

    async def close(self, code: int, reason: str) -> None:
        with suppress(*GONE):
            await super().close(code, reason.encode(errors="replace")[:MAX_REASON].decode(errors="ignore"))


class Handler(BaseGraphQLTransportWSHandler[Context, None]):
    async def handle_message(self, message: Any) -> None:
        if (wrong := _misshapen(message)) is not None:
            await self.handle_invalid_message(wrong)
        elif message["type"] == "subscribe" and self._is_full(message["id"]):
            await self.send_message(ErrorMessage(id=message["id"], type="error", payload=[TOO_MANY.formatted]))
        else:
            await super().handle_message(message)

    def _is_full(self, id: str) -> bool:
        """For an operation that is in order otherwise."""
        is_new = self.connection_acknowledged and id not in self.operations
        return is_new and len(self.operations) >= MAX_OPERATIONS

    async def handle_task_exception(self, error: Exception) -> None:
        if not isinstance(error, WebSocketDisconnected):
            log.error("app.socket_fault", exc_info=error)


def _misshapen(message: object) -> str | None:
    """What is wrong with a message by its shape alone. A type that nobody knows is found by the protocol itself."""
    if not isinstance(message, dict):
        return "A message is a JSON object"
    kind, id, payload = message.get("type"), message.get("id"), message.get("payload")
    if not isinstance(kind, str):
        return "A message has a type"
    if kind in ("subscribe", "complete") and not (isinstance(id, str) and id):
        return f"A {kind} message has an id, which is text"
    if kind == "subscribe" and not isinstance(payload, dict):
        return "A subscribe message has a payload, which is an object"
    return _misshapen_operation(payload) if kind == "subscribe" and isinstance(payload, dict) else None


def _misshapen_operation(payload: dict[str, object]) -> str | None:
    if not isinstance(payload.get("query"), str):
        return "The payload has a query, which is text"
    for name, kind, word in (("variables", dict, "an object"), ("operationName", str, "text")):
        if not isinstance(payload.get(name), kind | None):
            return f"The payload's {name} is {word} or null"
    return None
