"""Responses to requests of unknown callers: 401 with WWW-Authenticate (RFC 6750), as a GraphQL error."""

from contextlib import suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from app.server.responses import problem_response
from app.server.websockets import MAX_REASON
from persistence.problems import Unauthenticated

FORBIDDEN_CLOSE = 4403
"""WebSocket close code of a token that is refused, has expired, or was revoked."""


def unauthenticated_response(problem: Unauthenticated) -> Response:
    """Create the response to a request without a token, or with one that is not accepted."""
    description = problem.detail.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
    reason = f', error="invalid_token", error_description="{description}"' if problem.has_token else ""
    headers = {"WWW-Authenticate": f'Bearer realm="treadle"{reason}'}
    return problem_response(problem.status, problem.code, problem.detail, headers)


async def refuse_unknown(request: Request | WebSocket, problem: Unauthenticated) -> Response | WebSocket:
    """Respond to an unknown caller: over HTTP with 401, over WebSocket by closing the socket."""
    if not isinstance(request, WebSocket):
        return unauthenticated_response(problem)
    if WebSocketState.DISCONNECTED not in (request.client_state, request.application_state):
        with suppress(WebSocketDisconnect):
            reason = problem.detail.encode()[:MAX_REASON].decode(errors="ignore")
            await request.close(FORBIDDEN_CLOSE, reason)
    return request
