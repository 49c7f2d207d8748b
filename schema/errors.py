"""Top-level errors as clients see them: a ProblemCode in `extensions.code` and no internal details.

`extensions.requestId` is the id of the request, which is also in its log lines. Faults are logged
with their traceback. Client input is removed from messages, because it may hold the value of a
secret. `schema.Schema` calls it for every result.
"""

import re
from typing import Any

import structlog
from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from structlog.contextvars import get_contextvars

from persistence.db.transient import is_disk_full, is_transient
from persistence.problems import Invalid, Limit, Problem, ProblemCode

log = structlog.get_logger(__name__)

REQUEST_ID = "request_id"
"""The name of the request id in log lines. The server binds it for the time of a request."""
MAX_MESSAGE = 2000
"""Characters of a message that a client gets."""
CLIENT_ERRORS = (GraphQLError, MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)
"""Raised by the libraries for an invalid operation; the client gets the message."""
_INPUT_IN_MESSAGE = re.compile(
    r"[,;]? [Ff]ound: .*"
    r"|(?P<leaf>\b(?:String|ID) cannot represent (?:a non string )?value): .*"
    r"|(?P<token>^Syntax Error: .*?(?:found|Unexpected) (?:Name|String|BlockString|Int|Float)) '.*",
    re.DOTALL,
)
"""The end of a graphql-core message that quotes the input. The text before it holds only names
and paths."""


def client_error(error: GraphQLError) -> GraphQLError:
    """Return the error as a client may see it. Logs faults and unreachable stores."""
    cause = error.original_error
    if isinstance(cause, Problem):
        return _with_message(error, cause.detail, {"code": cause.code, "title": cause.title, **_details(cause)})
    if cause is None or isinstance(cause, CLIENT_ERRORS):
        extensions = {"code": ProblemCode.VALIDATION, **(error.extensions or {})}
        return _with_message(error, _without_input(error.message), extensions)
    if is_transient(cause):
        log.warning("schema.unavailable", path=error.path, error=str(cause) or type(cause).__name__)
        return _with_message(error, _unavailable_text(cause), {"code": ProblemCode.UNAVAILABLE})
    log.error("schema.fault", path=error.path, exc_info=cause)
    return _with_message(error, unexpected_message(), {"code": ProblemCode.INTERNAL})


def _unavailable_text(cause: BaseException) -> str:
    if is_disk_full(cause):
        return "The disk of the database is full. Nothing was stored; try again after its operator has freed space."
    return "The database or Redis cannot be reached now; try again."


def unexpected_message() -> str:
    """Return the message for a fault: where its reason is, and nothing of the reason itself."""
    request_id = get_contextvars().get(REQUEST_ID)
    where = "" if request_id is None else f" The log of the server has its reason, with the request id {request_id}."
    return f"Unexpected error.{where}"


def request_extensions() -> dict[str, str]:
    """Return the extension with the id of the current request; empty outside of a request."""
    request_id = get_contextvars().get(REQUEST_ID)
    return {} if request_id is None else {"requestId": request_id}


def _without_input(message: str) -> str:
    cleaned = _INPUT_IN_MESSAGE.sub(lambda match: match["leaf"] or match["token"] or "", message)
    return cleaned if cleaned == message or cleaned.endswith("?") else f"{cleaned}."


def _details(problem: Problem) -> dict[str, Any]:
    if isinstance(problem, Limit) and problem.retry_after_s is not None:
        return {"retryAfterS": problem.retry_after_s}
    if not isinstance(problem, Invalid):
        return {}
    return {
        "errors": [{"field": error.field, "code": error.code, "message": error.message} for error in problem.errors]
    }


def _with_message(error: GraphQLError, message: str, extensions: dict[str, Any]) -> GraphQLError:
    # A message may quote input of any length, and lone surrogates, which UTF-8 cannot encode.
    return GraphQLError(
        message[:MAX_MESSAGE].encode(errors="backslashreplace").decode(),
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions={**extensions, **request_extensions()},
    )
