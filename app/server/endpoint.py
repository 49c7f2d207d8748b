"""The GraphQL endpoint: POST, GET, Server-Sent Events and graphql-transport-ws at one address.

A browser that opens the address gets GraphiQL. A broken connection ends its own subscriptions and
nothing else. Errors become GraphQL errors over HTTP and close codes over WebSocket.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.unset import UNSET

from app.server.cross_site import AllowedOrigins
from app.server.documents import TrustedDocuments
from app.server.operations import decode_json, encode_json, respond
from app.server.responses import problem_response
from app.server.sign_in.challenge import refuse_unknown
from app.server.websockets import ENDINGS, MAX_REASON, Handler, Socket
from persistence.db.transient import is_transient
from persistence.problems import Problem, ProblemCode, Unauthenticated
from resolvers.context import Context
from schema.errors import unexpected_message
from schema.schema import schema
from web.site import page, wants_page

log = structlog.get_logger(__name__)

CLOSE_CODES = {ProblemCode.UNAVAILABLE: 1013, ProblemCode.LIMIT: 1013, ProblemCode.FORBIDDEN: 4403}
"""WebSocket close codes: "try again later" and "forbidden".

Every other error is internal, code 1011.
"""


class ContextFactory(Protocol):
    """Creates the context of one request or socket."""

    async def __call__(self, request: Request | WebSocket) -> Context: ...


class SignIn(Protocol):
    """Signs the caller of a socket in, after its connection_init. Raises Unauthenticated."""

    async def __call__(self, context: Context) -> None: ...


class Endpoint(GraphQL[Context, None]):
    """Our handler of HTTP, and Strawberry's of WebSockets with our contexts, errors and JSON rules."""

    websocket_adapter_class = Socket
    graphql_transport_ws_handler_class = Handler

    def __init__(
        self,
        create_context: ContextFactory,
        sign_in: SignIn,
        origins: AllowedOrigins,
        init_timeout: timedelta,
        documents: TrustedDocuments,
        *,
        has_page: bool,
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            # Handler has a limit of its own, with an error code.
            max_subscriptions_per_connection=None,
            connection_init_wait_timeout=init_timeout,
            # `run` has checked the origin.
            allowed_origins=("*",),
        )
        self._create_context, self._sign_in, self._origins = create_context, sign_in, origins
        self.documents, self._has_page = documents, has_page
        self.endings = asyncio.Semaphore(ENDINGS)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        return await self._create_context(request)

    async def on_ws_connect(self, context: Context) -> Any:
        await self._sign_in(context)
        return UNSET

    async def run(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        # First, without access to a store: the page explains an outage better than an error
        # response.
        if self._has_page and isinstance(request, Request) and wants_page(request):
            return page()
        if (refusal := self._origins.refusal(request.headers)) is not None:
            return await _deny(request, problem_response(403, ProblemCode.FORBIDDEN, refusal))
        try:
            if isinstance(request, Request):
                return await respond(request, await self._create_context(request), self.documents)
            return await super().run(request, *args, **kwargs)
        except Unauthenticated as problem:
            return await refuse_unknown(request, problem)
        except Problem as problem:
            return await _refuse(request, problem.status, problem.code, problem.detail)
        except ClientDisconnect:
            return Response(status_code=400)  # It is never sent, as the client has disconnected.
        except Exception as error:
            if is_transient(error):
                log.warning("app.unavailable", error=str(error) or type(error).__name__)
                return await _refuse(request, 503, ProblemCode.UNAVAILABLE, "A store is unavailable; try again later.")
            log.exception("app.fault")
            return await _refuse(request, 500, ProblemCode.INTERNAL, unexpected_message())

    def decode_json(self, data: str | bytes) -> object:
        return decode_json(data)

    def encode_json(self, data: object) -> str:
        return encode_json(data)


async def _deny(request: Request | WebSocket, response: Response) -> Response | WebSocket:
    """Answer a request, or a handshake instead of accepting it."""
    if not isinstance(request, WebSocket):
        return response
    await request.send_denial_response(response)
    return request


async def _refuse(request: Request | WebSocket, status: int, code: ProblemCode, message: str) -> Response | WebSocket:
    """Respond with an error: over HTTP as a GraphQL error, over WebSocket by closing the socket."""
    if not isinstance(request, WebSocket):
        # No more of a slow body is read.
        return problem_response(status, code, message, {"Connection": "close"} if status == 408 else None)
    if WebSocketState.DISCONNECTED not in (request.client_state, request.application_state):
        with suppress(WebSocketDisconnect):
            await request.close(CLOSE_CODES.get(code, 1011), message[:MAX_REASON])
    return request
