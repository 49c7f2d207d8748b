"""WebSocket handlers for the graphql-transport-ws protocol.

An invalid message closes only its own socket, with the close code that the protocol defines. An
invalid operation ends with an error under its id, and the other operations of the socket continue.
A client that disconnects is not logged as an error.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from json import JSONDecodeError
from typing import Any, Protocol, cast

import structlog
from graphql import GraphQLError
from starlette.websockets import WebSocketDisconnect, WebSocketState
from starlette.websockets import WebSocketDisconnected as SentAfterDisconnect
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived, WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ErrorMessage

from app.server.body_limit import LARGE, TooManyLargeBodies, address_of, large_bodies
from app.server.documents import DocumentRefused, TrustedDocuments
from app.server.operations import decode, working_for_caller
from engine.isolation.loop_share import loop_share
from persistence.problems import Limit, ProblemCode
from resolvers.context import Context
from schema.errors import request_extensions
from schema.execution.operation import operation_extensions

log = structlog.get_logger(__name__)

MAX_OPERATIONS = 100
"""Limit of active operations per socket: subscriptions, and calls without a response yet."""
ENDINGS = 16
"""Operations of closed sockets that are ended in one pass of the event loop, in about 5 ms."""
MAX_REASON = 123
"""Bytes of the reason in a close frame (RFC 6455, section 5.5)."""
DISCONNECTS = (WebSocketDisconnect, SentAfterDisconnect)


class ServesSockets(Protocol):
    """The endpoint, which knows the trusted documents.

    `endings` has ENDINGS permits, for the operations of all sockets that are being ended.
    """

    documents: TrustedDocuments
    endings: asyncio.Semaphore


class Socket(ASGIWebSocketAdapter):
    """A WebSocket whose sends and close tolerate a client that has disconnected.

    `received_size` is the number of characters of the last message.
    """

    received_size = 0

    @property
    def address(self) -> str:
        return address_of(self.ws.scope)

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:
        """Yield the messages, each in a turn of the event loop of its own.

        Messages that have arrived already are received without a wait: a burst of them, and the
        operations that they start, would occupy one turn. Large ones are parsed in turn; see
        large_bodies.
        """
        try:
            while self.ws.application_state != WebSocketState.DISCONNECTED:
                text = await self.ws.receive_text()
                self.received_size = len(text)
                yield await decode(text, self.address)
                await asyncio.sleep(0)
        except JSONDecodeError as error:
            raise NonJsonMessageReceived from error
        except KeyError as error:
            raise NonTextMessageReceived from error
        except Limit as limit:
            await self.close(1009, limit.detail)
        except WebSocketDisconnect:
            return

    async def send_json(self, message: Mapping[str, object]) -> None:
        try:
            await super().send_json(message)
        except SentAfterDisconnect as error:
            raise WebSocketDisconnected from error

    async def close(self, code: int, reason: str) -> None:
        with suppress(*DISCONNECTS):
            await super().close(code, reason.encode(errors="replace")[:MAX_REASON].decode(errors="ignore"))


class Handler(BaseGraphQLTransportWSHandler[Context, None]):
    """Handles the messages of one socket; checks their shape and limits active operations."""

    websocket: Socket

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sizes: dict[str, int] = {}
        """The sizes of large operations that have not started, by id."""

    async def handle_message(self, message: Any) -> None:
        if (error := _message_error(message)) is not None:
            await self.handle_invalid_message(error)
        elif message["type"] == "connection_init" and message.get("payload") is None:
            # The protocol allows a payload of null, which means none.
            await super().handle_message({"type": "connection_init"})
        elif message["type"] == "subscribe" and self._is_full(message["id"]):
            await self.send_message(ErrorMessage(id=message["id"], type="error", payload=[_too_many().formatted]))
        else:
            await self._handle_valid(message)

    async def _handle_valid(self, message: Any) -> None:
        """Handle a message of a valid shape; the text of a trusted document replaces its id."""
        if message["type"] == "subscribe":
            if self.websocket.received_size > LARGE:
                self._sizes[message["id"]] = self.websocket.received_size
            payload = message["payload"]
            try:
                text = cast("ServesSockets", self.view).documents.text_of(payload)
            except DocumentRefused as refused:
                if self.connection_acknowledged:
                    error = refused.error.formatted
                    await self.send_message(ErrorMessage(id=message["id"], type="error", payload=[error]))
                    return
                text = ""
            # The task of the operation copies the context that it is created in.
            operation_extensions.set(payload.get("extensions"))
            message = {**message, "payload": {**payload, "query": text or ""}}
        await super().handle_message(message)

    async def run_operation(self, operation: Operation[Context, None]) -> None:
        """Run an operation. The size of a large one counts for the address until its end."""
        working_for_caller(self.context)
        await loop_share().turn()
        if (size := self._sizes.pop(operation.id, 0)) == 0:
            await super().run_operation(operation)
            return
        try:
            with large_bodies.hold(self.websocket.address, size):
                await super().run_operation(operation)
        except TooManyLargeBodies as limit:
            error = GraphQLError(limit.detail, extensions={"code": limit.code})
            await operation.send_initial_errors([error])

    async def shutdown(self) -> None:
        """End the operations of a closed socket, few at a time: thousands of sockets may close at once."""
        for id, operation in list(self.operations.items()):
            async with cast("ServesSockets", self.view).endings:
                await loop_share().turn()
                await self.cleanup_operation(id)
                if operation.task is not None:
                    await asyncio.wait({operation.task})
                    # The task keeps its exception, which refers to the task, until it is read.
                    with suppress(Exception, asyncio.CancelledError):
                        operation.task.result()
        await super().shutdown()

    def _is_full(self, id: str) -> bool:
        """Return whether one more valid operation would exceed the limit."""
        is_new = self.connection_acknowledged and id not in self.operations
        return is_new and len(self.operations) >= MAX_OPERATIONS

    async def handle_task_exception(self, error: Exception) -> None:
        if not isinstance(error, WebSocketDisconnected):
            log.error("app.socket_fault", exc_info=error)


def _too_many() -> GraphQLError:
    return GraphQLError(
        f"{MAX_OPERATIONS} operations are active on this socket, which is the limit. Complete one first.",
        extensions={"code": ProblemCode.LIMIT, "limit": MAX_OPERATIONS, **request_extensions()},
    )


def _message_error(message: object) -> str | None:
    """Return what is wrong with the shape of a message, or None.

    Strawberry itself refuses unknown types.
    """
    if not isinstance(message, dict):
        return "A message must be a JSON object"
    kind, id, payload = message.get("type"), message.get("id"), message.get("payload")
    if not isinstance(kind, str):
        return "A message must have a type, which is a string"
    if kind in ("subscribe", "complete") and not (isinstance(id, str) and id):
        return f"A {kind} message must have an id, which is a string"
    if isinstance(id, str) and not _is_unicode(id):
        return "An id must be Unicode text, without a lone surrogate"
    if kind == "subscribe" and not isinstance(payload, dict):
        return "A subscribe message must have a payload, which is an object"
    return _operation_error(payload) if kind == "subscribe" and isinstance(payload, dict) else None


def _is_unicode(text: str) -> bool:
    """Return whether a text can be encoded. JSON can escape half of a surrogate pair, UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _operation_error(payload: dict[str, object]) -> str | None:
    extensions = payload.get("extensions")
    is_named = "documentId" in payload or (isinstance(extensions, dict) and "persistedQuery" in extensions)
    if not isinstance(payload.get("query"), str) and not (is_named and payload.get("query") is None):
        return "The payload must have a query, which is a string"
    for name, kind, kind_name in (
        ("variables", dict, "an object"),
        ("operationName", str, "a string"),
        ("documentId", str, "a string"),
        ("extensions", dict, "an object"),
    ):
        if not isinstance(payload.get(name), kind | None):
            return f"The payload's {name} must be {kind_name} or null"
    return None
