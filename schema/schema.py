"""The schema as a whole. Stateless: one for all requests of a process."""

from collections.abc import Iterable
from typing import Any

import strawberry
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
)
from strawberry.exceptions import MissingQueryError
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from schema.errors import shown
from schema.executor import SharingExecutor
from schema.limits.admission import OperationRefused, admitted
from schema.mutation import Mutation
from schema.problem import PROBLEM_TYPES
from schema.query import Query
from schema.runs.wait import WAIT_TYPES
from schema.scalars import SCALARS, check_texts
from schema.subscription import EVENT_TYPES, Subscription


class ManyAnswersError(InvalidOperationTypeError):
    """A subscription where one answer is expected."""

    def as_http_error_reason(self, method: str) -> str:
        return (
            "A subscription has many answers: ask for them with the header `Accept: text/event-stream` "
            "(Server-Sent Events), or over a WebSocket (graphql-transport-ws) at this address."
        )


class Schema(strawberry.Schema):
    """Some of Strawberry's steps are our own."""

    async def execute(self, query: str | None, *args: Any, **kwargs: Any) -> ExecutionResult:
        """One answer. Strawberry would let a subscription in here, and fail in the middle of it."""
        allowed: Iterable[OperationType] = kwargs.pop("allowed_operation_types", None) or OperationType
        kwargs["allowed_operation_types"] = set(allowed) - {OperationType.SUBSCRIPTION}
        return await super().execute(query, *args, **kwargs)

    async def _prepare_operation_async(
        self, context: ExecutionContext, extensions_runner: SchemaExtensionsRunner
    ) -> PreExecutionError | None:
        """Strawberry's own takes the first of several operations, and limits after it has validated."""
        if not context.query:
            raise MissingQueryError
        name = context.operation_name
        try:
            context.graphql_document = admitted(self._schema, context.query, name, context.variables or {})
        except OperationRefused as refused:
            context.pre_execution_errors = refused.errors
            return PreExecutionError(data=None, errors=refused.errors)
        if context.operation_type not in context.allowed_operations:
            is_streamed = context.operation_type is OperationType.SUBSCRIPTION
            raise (ManyAnswersError if is_streamed else InvalidOperationTypeError)(context.operation_type)
        return None

    async def _handle_execution_result(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Every result passes here, whatever went wrong and wherever: its errors are told as clients may see them."""
        result = await super()._handle_execution_result(*args, **kwargs)
        result.errors = result.errors and [shown(error) for error in result.errors]
        return result

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Strawberry would log a client's typing errors like faults; `shown` logs what is one."""


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[*PROBLEM_TYPES, *EVENT_TYPES, *WAIT_TYPES],
    config=StrawberryConfig(scalar_map=SCALARS),
    execution_context_class=SharingExecutor,
)


def _without_null_defaults(graph: GraphQLSchema) -> None:
    """A default of null says nothing more than that an argument may be left out; Python's own defaults still hold."""
    for kind in graph.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            places = list(kind.fields.values())
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            places = [place for field in kind.fields.values() for place in field.args.values()]
        else:
            continue
        for place in places:
            if place.default_value is None:
                place.default_value = Undefined


_without_null_defaults(schema._schema)
check_texts(schema._schema)


def as_sdl() -> str:
    """The schema as text, as it is committed in schema/schema.graphql."""
    return schema.as_str() + "\n"
