"""The GraphQL endpoint: POST, GET, Server-Sent Events and graphql-transport-ws at one address, a page for browsers.

A connection that breaks takes its subscriptions with it and nothing else.
"""

import json
from contextlib import suppress
from typing import Any, Protocol

import orjson
import structlog
from cross_web import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL

from app.server.error_responses import problem_response
from app.server.websockets import MAX_REASON, Handler, Socket
from persistence.db.transient import is_transient
from persistence.problems import Problem, ProblemCode
from resolvers.context import Context
from schema.schema import schema
from web.site import page, wants_page

log = structlog.get_logger(__name__)

CLOSE_CODES = {ProblemCode.UNAVAILABLE: 1013, ProblemCode.FORBIDDEN: 4403}
"""For a WebSocket: try again later, and not allowed in. Anything else is a fault of ours, 1011."""


class Opening(Protocol):
    """Makes the context of one request or socket."""

    async def __call__(self, request: Request | WebSocket) -> Context: ...


class Endpoint(GraphQL[Context, None]):
    websocket_adapter_class = Socket
    graphql_transport_ws_handler_class = Handler

    def __init__(self, opening: Opening) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            max_subscriptions_per_connection=None,  # The handler's own limit has a code that a client can go by.
        )
        self._opening = opening

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        return await self._opening(request)

    async def run(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        # Before anything is asked of a store: the page tells more about what is down than an error does.
        if isinstance(request, Request) and wants_page(request):
            return page()
        try:
            return await super().run(request, *args, **kwargs)
        except HTTPException as refused:
            return problem_response(refused.status_code, ProblemCode.VALIDATION, refused.reason)
        except Problem as problem:
            return await _refuse(request, problem.status, problem.code, problem.detail)
        except ClientDisconnect:
            return Response(status_code=400)  # Nobody reads it.
        except Exception as error:
            if is_transient(error):
                log.warning("app.unavailable", error=str(error) or type(error).__name__)
                return await _refuse(request, 503, ProblemCode.UNAVAILABLE, "A store cannot be reached now; try again.")
            log.exception("app.fault")
            return await _refuse(request, 500, ProblemCode.INTERNAL, "Unexpected error.")

    def parse_json(self, data: str | bytes) -> Any:
        parsed = super().parse_json(data)
        if not isinstance(parsed, dict | list):
            raise HTTPException(400, "An operation is a JSON object")
        return parsed

    def decode_json(self, data: str | bytes) -> object:
        """Raises JSONDecodeError, whatever is wrong: NaN, nesting without end and endless numbers included."""
        try:
            return json.loads(data, parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as wrong:
            raise json.JSONDecodeError(str(wrong), "", 0) from wrong

    def encode_json(self, data: object) -> str:
        """Text: bytes would go out as binary frames, which graphql-transport-ws does not have."""
        return orjson.dumps(data).decode()


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


async def _refuse(request: Request | WebSocket, status: int, code: ProblemCode, message: str) -> Response | WebSocket:
    if not isinstance(request, WebSocket):
        return problem_response(status, code, message)
    if WebSocketState.DISCONNECTED not in (request.client_state, request.application_state):
        with suppress(WebSocketDisconnect):
            await request.close(CLOSE_CODES.get(code, 1011), message[:MAX_REASON])
    return request
