"""The GraphQL endpoint: POST, GET, Server-Sent Events and graphql-transport-ws at one address.

A browser that opens the address gets GraphiQL. A broken connection ends its own subscriptions and
nothing else. Errors become GraphQL errors over HTTP and close codes over WebSocket.
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

from app.server.cross_site import cross_site_reason
from app.server.error_responses import problem_response
from app.server.websockets import MAX_REASON, Handler, Socket
from engine.values.json_text import without_mark
from persistence.db.transient import is_transient
from persistence.problems import Problem, ProblemCode
from resolvers.context import Context
from schema.schema import schema
from web.site import page, wants_page

log = structlog.get_logger(__name__)

CLOSE_CODES = {ProblemCode.UNAVAILABLE: 1013, ProblemCode.FORBIDDEN: 4403}
"""WebSocket close codes: "try again later" and "forbidden".

Every other error is internal, code 1011.
"""


class ContextFactory(Protocol):
    """Creates the context of one request or socket."""

    async def __call__(self, request: Request | WebSocket) -> Context: ...


class Endpoint(GraphQL[Context, None]):
    """Strawberry's ASGI app with our contexts, error responses and JSON rules."""

    websocket_adapter_class = Socket
    graphql_transport_ws_handler_class = Handler

    def __init__(self, create_context: ContextFactory) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            # Handler has a limit of its own, with an error code.
            max_subscriptions_per_connection=None,
        )
        self._create_context = create_context

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        return await self._create_context(request)

    async def run(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        # First, without access to a store: the page explains an outage better than an error
        # response.
        if isinstance(request, Request) and wants_page(request):
            return page()
        if isinstance(request, Request) and (reason := cross_site_reason(request)):
            message = f"Requests from pages of other sites are refused: {reason}."
            return problem_response(403, ProblemCode.FORBIDDEN, message)
        try:
            return await super().run(request, *args, **kwargs)
        except HTTPException as error:
            return problem_response(error.status_code, ProblemCode.VALIDATION, error.reason)
        except Problem as problem:
            return await _refuse(request, problem.status, problem.code, problem.detail)
        except ClientDisconnect:
            return Response(status_code=400)  # It is never sent, as the client has disconnected.
        except Exception as error:
            if is_transient(error):
                log.warning("app.unavailable", error=str(error) or type(error).__name__)
                return await _refuse(request, 503, ProblemCode.UNAVAILABLE, "A store is unavailable; try again later.")
            log.exception("app.fault")
            return await _refuse(request, 500, ProblemCode.INTERNAL, "Unexpected error.")

    def parse_json(self, data: str | bytes) -> Any:
        parsed = super().parse_json(data)
        if not isinstance(parsed, dict | list):
            raise HTTPException(400, "An operation must be a JSON object")
        return parsed

    def decode_json(self, data: str | bytes) -> object:
        """Parse JSON.

        Raises JSONDecodeError for every error, also for NaN, deep nesting and huge numbers.
        """
        try:
            return json.loads(without_mark(data), parse_constant=_refuse_constant)
        except json.JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), "", 0) from error

    def encode_json(self, data: object) -> str:
        """Serialise to text, because graphql-transport-ws has no binary frames."""
        return orjson.dumps(data).decode()


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not valid JSON")


async def _refuse(request: Request | WebSocket, status: int, code: ProblemCode, message: str) -> Response | WebSocket:
    """Respond with an error: over HTTP as a GraphQL error, over WebSocket by closing the socket."""
    if not isinstance(request, WebSocket):
        return problem_response(status, code, message)
    if WebSocketState.DISCONNECTED not in (request.client_state, request.application_state):
        with suppress(WebSocketDisconnect):
            await request.close(CLOSE_CODES.get(code, 1011), message[:MAX_REASON])
    return request
