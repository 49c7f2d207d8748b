"""JSON responses: results of operations, and errors outside of GraphQL in the shape of GraphQL errors.

Clients therefore need to handle only one shape of errors. Large bodies are compressed, and results
by GET have an ETag.
"""

import asyncio
import gzip
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from app.server.negotiation import PLAIN_JSON, RESPONSE_JSON, accepts_encoding
from persistence.problems import ProblemCode
from schema.errors import request_extensions

NO_SNIFF = {"X-Content-Type-Options": "nosniff"}
MIN_GZIP = 1024
"""Bytes of the smallest body that is compressed."""
MAX_INLINE_GZIP = 64 * 1024
"""Bytes of the largest body that is compressed on the event loop; this takes less than 1 ms."""
GZIP_LEVEL = 1
"""Takes a third of the time of the default level, for about 10 % larger bodies."""
STATUS_BY_CODE = {ProblemCode.INTERNAL: 500, ProblemCode.UNAVAILABLE: 503, ProblemCode.FORBIDDEN: 403}
"""HTTP statuses of operations that were not executed; 400 for all other codes."""


def problem_response(
    status: int,
    code: ProblemCode,
    message: str,
    headers: Mapping[str, str] | None = None,
    media_type: str = PLAIN_JSON,
) -> Response:
    """Create a JSON response with one GraphQL error.

    Args:
        status: The HTTP status.
        code: The code in `extensions`.
        message: The message for the client.
        headers: Further headers.
        media_type: The JSON type that the client accepts.
    """
    error = {"message": message, "extensions": {"code": code}}
    return errors_response(status, [error], {"Cache-Control": "no-store", **(headers or {})}, media_type)


def errors_response(
    status: int, errors: Sequence[Mapping[str, Any]], headers: Mapping[str, str], media_type: str = PLAIN_JSON
) -> Response:
    """Create a JSON response with formatted GraphQL errors, which get the id of the request."""
    with_id = [{**one, "extensions": {**one["extensions"], **request_extensions()}} for one in errors]
    return json_response(orjson.dumps({"errors": with_id}), status, media_type, headers)


async def not_served(request: Request, error: Exception) -> Response:
    """Create the response to a path or a method that the server does not have."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"There is nothing at {request.url.path[:100]!r}. The API is at /graphql, and the state at /health and /readyz."
        return problem_response(404, ProblemCode.NOT_FOUND, message)
    headers = dict(error.headers or {})
    if "Allow" in headers:  # Starlette keeps the methods of a route in a set.
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    return problem_response(error.status_code, ProblemCode.VALIDATION, error.detail, headers)


def result_body(result: ExecutionResult) -> dict[str, Any]:
    """Return the body of a result: without `data` if the operation was not executed."""
    body: dict[str, Any] = {} if _was_refused(result) else {"data": result.data}
    if result.errors:
        body["errors"] = [error.formatted for error in result.errors]
    if result.extensions:
        body["extensions"] = result.extensions
    return body


async def result_response(request: Request, result: ExecutionResult, media_type: str) -> Response:
    """Create the response to a query or mutation, compressed if it is large."""
    body = orjson.dumps(result_body(result))
    status = _status(result, media_type)
    headers = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
    if (seconds := _retry_after(result)) is not None:
        status, headers["Retry-After"] = 429, str(seconds)
    if request.method != "POST" and status == 200 and not result.errors:
        headers |= {"Cache-Control": "private, no-cache", "ETag": _etag(body)}
        if _matches(request.headers.get("if-none-match"), headers["ETag"]):
            return Response(status_code=304, headers=headers)
    if len(body) > MIN_GZIP and accepts_encoding(request.headers.get("accept-encoding"), "gzip"):
        body, headers["Content-Encoding"] = await _compressed(body), "gzip"
    return json_response(body, status, media_type, headers)


def _retry_after(result: ExecutionResult) -> int | None:
    """Return the seconds after which a refused operation is accepted, if it was over a rate limit."""
    errors = result.errors if _was_refused(result) else None
    seconds = (errors[0].extensions or {}).get("retryAfterS") if errors else None
    return seconds if isinstance(seconds, int) else None


def _was_refused(result: ExecutionResult) -> bool:
    """Return whether execution never began."""
    return isinstance(result, PreExecutionError)


def _status(result: ExecutionResult, media_type: str) -> int:
    if media_type != RESPONSE_JSON or not _was_refused(result):
        return 200
    code = (result.errors or [])[0].extensions or {}
    return STATUS_BY_CODE.get(code.get("code", ProblemCode.VALIDATION), 400)


def json_response(body: bytes, status: int, media_type: str, headers: Mapping[str, str]) -> Response:
    """Create a response with an encoded JSON value."""
    content_type = f"{media_type}; charset=utf-8"
    return Response(body, status_code=status, headers={"Content-Type": content_type, **NO_SNIFF, **headers})


def _etag(body: bytes) -> str:
    """Return a weak ETag, which all codings and media types of the same result share."""
    return f'W/"{blake2b(body, digest_size=16).hexdigest()}"'


def _matches(if_none_match: str | None, etag: str) -> bool:
    candidates = [one.strip() for one in (if_none_match or "").split(",")]
    return "*" in candidates or etag in candidates or etag.removeprefix("W/") in candidates


async def _compressed(body: bytes) -> bytes:
    if len(body) <= MAX_INLINE_GZIP:
        return gzip.compress(body, GZIP_LEVEL)
    return await asyncio.to_thread(gzip.compress, body, GZIP_LEVEL)
