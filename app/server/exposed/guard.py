"""The checks of a request for exposed workflows, which are those of the GraphQL endpoint.

A request of a page of another site is refused, the caller is signed in, and the price is taken from its
rate limits. Errors have the shape of GraphQL errors.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Protocol

from graphql import GraphQLError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.server.cross_site import AllowedOrigins
from app.server.negotiation import PLAIN_JSON
from app.server.operations import RequestRefused, working_for_caller
from app.server.responses import STATUS_BY_CODE, errors_response
from app.server.sign_in.challenge import unauthenticated_response
from persistence.problems import Limit, Problem, Unauthenticated
from resolvers.context import Context
from schema.errors import client_error

Handler = Callable[[Request, Context], Awaitable[Response]]


class HttpContextFactory(Protocol):
    """Creates the context of one request. Raises Unauthenticated and TooManyConnections."""

    async def __call__(self, request: Request) -> Context: ...


class RequestGuard:
    """Lets requests of known callers through to a handler."""

    def __init__(self, create_context: HttpContextFactory, origins: AllowedOrigins) -> None:
        self._create_context, self._origins = create_context, origins

    def guarded(self, handler: Handler, points: int) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that calls `handler` for a known caller, for a price in points."""

        async def respond(request: Request) -> Response:
            try:
                return await handler(request, await self.admit(request, points))
            except ClientDisconnect:
                return Response(status_code=HTTPStatus.BAD_REQUEST)  # It is never sent.
            except Exception as error:
                return error_response(error)

        return respond

    async def admit(self, request: Request, points: int) -> Context:
        """Return the context of the caller. Raises Problem and RequestRefused."""
        if (refusal := self._origins.refusal(request.headers)) is not None:
            raise RequestRefused(HTTPStatus.FORBIDDEN, refusal)
        if "\0" in request.scope["path"] or "\0" in "".join(request.query_params.values()):
            raise RequestRefused(HTTPStatus.BAD_REQUEST, "The address must not contain the character NUL (`%00`).")
        context = await self._create_context(request)
        working_for_caller(context)
        if context.policy.rates is not None:
            await context.policy.rates.take(context.caller, points)
        return context


def error_response(error: Exception) -> Response:
    """Return the response to a request that has failed. Faults are logged, and clients see no reason."""
    if isinstance(error, RequestRefused):
        return error.response(PLAIN_JSON)
    if isinstance(error, Unauthenticated):
        return unauthenticated_response(error)
    formatted = client_error(GraphQLError("", original_error=error)).formatted
    code = formatted["extensions"]["code"]
    status = error.status if isinstance(error, Problem) else STATUS_BY_CODE.get(code, 500)
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Limit) and error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return errors_response(status, [formatted], headers, PLAIN_JSON)
