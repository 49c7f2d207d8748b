"""What top-level errors tell: a ProblemCode in `extensions.code`, and nothing of our insides. Faults are logged.

Texts and objects that were given are not repeated: the value of a secret may be among them.
"""

import re
from typing import Any

import structlog
from graphql import GraphQLError
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError

from persistence.db.transient import is_transient
from persistence.problems import Invalid, Problem, ProblemCode

log = structlog.get_logger(__name__)

MAX_MESSAGE = 2000

MISTAKES = (GraphQLError, MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)
"""What the libraries raise for an operation that is wrong in itself; the message is for the client."""
_GIVEN = re.compile(
    r"[,;]? [Ff]ound: .*"
    r"|(?P<leaf>\b(?:String|ID) cannot represent (?:a non string )?value): .*"
    r"|(?P<token>^Syntax Error: .*?(?:found|Unexpected) (?:Name|String|BlockString|Int|Float)) '.*",
    re.DOTALL,
)
"""How graphql-core ends a message with what was given. Before it stand names, and places in variables."""


def shown(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it."""
    cause = error.original_error
    if isinstance(cause, Problem):
        return _told(error, cause.detail, {"code": cause.code, "title": cause.title, **_fields_of(cause)})
    if cause is None or isinstance(cause, MISTAKES):
        return _told(error, _without_given(error.message), {"code": ProblemCode.VALIDATION, **(error.extensions or {})})
    if is_transient(cause):
        log.warning("schema.unavailable", path=error.path, error=str(cause) or type(cause).__name__)
        return _told(error, "A store cannot be reached now; try again.", {"code": ProblemCode.UNAVAILABLE})
    log.error("schema.fault", path=error.path, exc_info=cause)
    return _told(error, "Unexpected error.", {"code": ProblemCode.INTERNAL})


def _without_given(message: str) -> str:
    told = _GIVEN.sub(lambda found: found["leaf"] or found["token"] or "", message)
    return told if told == message or told.endswith("?") else f"{told}."


def _fields_of(problem: Problem) -> dict[str, Any]:
    if not isinstance(problem, Invalid):
        return {}
    return {"errors": [{"field": at.field, "code": at.code, "message": at.message} for at in problem.errors]}


def _told(error: GraphQLError, message: str, extensions: dict[str, Any]) -> GraphQLError:
    # Messages repeat what was given: here it may be of any length, and what no answer can be written in.
    return GraphQLError(
        message[:MAX_MESSAGE].encode(errors="backslashreplace").decode(),
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )
