"""The addresses of waits for events: `/callbacks/<token>`.

The route reads the request. resolvers/runs/signals.py checks it, and ends the wait.
"""

from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.server.hooks.routes import NOBODY, read_message, respond_to
from persistence.caller import Caller
from resolvers.context import Context
from resolvers.runs.signals import receive_callback


def callback_routes(context_of: Callable[[Caller], Context]) -> list[Route]:
    """Return the route of all callbacks. `context_of` makes the context of a caller."""

    async def respond(request: Request) -> Response:
        try:
            message = await read_message(request)
        except ClientDisconnect:
            return Response(status_code=400)
        token = request.path_params["token"]
        return await respond_to(receive_callback(context_of, context_of(NOBODY), token, message))

    return [Route("/callbacks/{token}", respond, methods=["POST"])]
