"""The addresses of webhooks: `/hooks/<token>`.

The route reads the request. resolvers/triggers/webhooks.py stores it, checks it and starts the run.
"""

from collections.abc import Awaitable, Callable

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from engine.triggers.webhook import WebhookMessage
from persistence.caller import Caller
from persistence.db.transient import is_transient
from resolvers.context import Context
from resolvers.triggers.responses import HookResponse, refusal
from resolvers.triggers.webhooks import receive

log = structlog.get_logger(__name__)

MAX_HEADERS = 200
NOBODY = Caller("webhook", {})
RETRY = {"Retry-After": "1"}
# A workflow may choose the body and its type. The browser gives such a page no origin, so that its
# scripts cannot use the API.
SAFE_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def hook_routes(context_of: Callable[[Caller], Context]) -> list[Route]:
    """Return the route of all webhooks. `context_of` makes the context of a caller."""

    async def respond(request: Request) -> Response:
        try:
            message = await read_message(request)
        except ClientDisconnect:
            return Response(status_code=400)
        address = None if request.client is None else request.client.host
        token = request.path_params["token"]
        return await respond_to(receive(context_of, context_of(NOBODY), token, message, address))

    return [Route("/hooks/{token}", respond, methods=["GET", "POST"])]


async def respond_to(result: Awaitable[HookResponse]) -> Response:
    """Write the response to a message: 503 if a store is unavailable, so that its sender repeats it."""
    try:
        return write_response(await result)
    except Exception as error:
        if not is_transient(error):
            raise
        log.warning("hooks.unavailable", error=str(error) or type(error).__name__)
        return write_response(refusal(503, "a store is unavailable: send the message again", RETRY))


async def read_message(request: Request) -> WebhookMessage:
    headers: dict[str, str] = {}
    for name, value in list(request.headers.items())[:MAX_HEADERS]:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    method = "GET" if request.method == "HEAD" else request.method
    return WebhookMessage(method, headers, dict(request.query_params), await request.body())


def write_response(response: HookResponse) -> Response:
    body = response.body
    kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
    headers = {"content-type": kind} | {name.lower(): value for name, value in response.headers.items()}
    content = b"" if response.status == 204 else body.encode() if isinstance(body, str) else orjson.dumps(body)
    return Response(content, response.status, headers | SAFE_HEADERS)
