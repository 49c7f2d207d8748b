"""What top-level errors tell: a ProblemCode in `extensions.code`, and nothing of our insides. Faults are logged."""

from collections.abc import Iterator
from typing import Any

import structlog
from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.types.execution import StreamExecutionResult

from persistence.away import AWAY
from persistence.problems import Invalid, Problem, ProblemCode

log = structlog.get_logger(__name__)

LIMITS = ("exceeds maximum operation depth", "aliases found. Allowed", "Document contains more than")
"""How Strawberry's limiters begin their say; they give no code of their own."""


def shown(error: GraphQLError) -> GraphQLError:
    """The error as a client may see it."""
    cause = error.original_error
    if isinstance(cause, Problem):
        return _told(error, cause.detail, {"code": cause.code, "title": cause.title, **_fields_of(cause)})
    if cause is None or isinstance(cause, GraphQLError):
        is_limit = any(words in error.message for words in LIMITS)
        code = ProblemCode.LIMIT if is_limit else ProblemCode.VALIDATION
        return _told(error, error.message, {"code": code, **(error.extensions or {})})
    if isinstance(cause, AWAY):
        log.warning("schema.unavailable", path=error.path, error=str(cause) or type(cause).__name__)
        return _told(error, "A store cannot be reached now; try again.", {"code": ProblemCode.UNAVAILABLE})
    log.error("schema.fault", path=error.path, exc_info=cause)
    return _told(error, "Unexpected error.", {"code": ProblemCode.INTERNAL})


def _fields_of(problem: Problem) -> dict[str, Any]:
    if not isinstance(problem, Invalid):
        return {}
    return {"errors": [{"field": at.field, "code": at.code, "message": at.message} for at in problem.errors]}


def _told(error: GraphQLError, message: str, extensions: dict[str, Any]) -> GraphQLError:
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )


class ShownErrors(SchemaExtension):
    """Goes over the errors of every result, once, before it leaves."""

    def __init__(self) -> None:
        self._has_streamed = False

    def on_operation(self) -> Iterator[None]:
        yield
        if not self._has_streamed:
            self._go_over(self.execution_context.result)

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        self._has_streamed = True
        self._go_over(result)
        yield

    def _go_over(self, result: Any) -> None:
        errors = getattr(result, "errors", None)
        if errors:
            result.errors = [shown(error) for error in errors]
