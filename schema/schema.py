"""The assembled schema, one for all requests of a process, and how it executes an operation."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any, cast

import strawberry
from graphql import ExecutionResult as GraphQLExecutionResult
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    Undefined,
)
from strawberry.exceptions import MissingQueryError
from strawberry.extensions.runner import SchemaExtensionsRunner
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from engine import tracing
from engine.isolation.suspension import suspendable
from engine.isolation.turns import NOBODY, Owner, working_for
from engine.values.large_values import is_large
from persistence.db.response_budget import used_by_response
from persistence.problems import Forbidden, Problem, ProblemCode
from resolvers.policy import LONGEST_WAIT_S
from schema.descriptions import describe
from schema.errors import client_error
from schema.execution.executor import BudgetedExecutor
from schema.execution.operation import OperationContext
from schema.limits.admission import OperationRefused, admit_off_loop, reads_schema
from schema.limits.cost import MAX_COST
from schema.mutation import Mutation
from schema.problem import PROBLEM_TYPES
from schema.query import Query
from schema.runs.wait import WAIT_TYPES
from schema.scalars import SCALARS, check_strings
from schema.subscription import EVENT_TYPES, Subscription


class SubscriptionNotStreamedError(InvalidOperationTypeError):
    """A subscription on a request that can carry only one response."""

    def as_http_error_reason(self, method: str) -> str:
        return (
            "A subscription has many responses: request it with the header `Accept: text/event-stream` "
            "(Server-Sent Events), or over a WebSocket (graphql-transport-ws) at the same URL."
        )


class Schema(strawberry.Schema):
    """Strawberry's schema with our admission of operations and our reports of errors."""

    async def execute(self, query: str | None, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Execute a query or mutation.

        Strawberry would accept a subscription here and fail during it.
        """
        allowed: Iterable[OperationType] = kwargs.pop("allowed_operation_types", None) or OperationType
        kwargs["allowed_operation_types"] = set(allowed) - {OperationType.SUBSCRIPTION}
        with tracing.span("graphql", "server"):
            return await super().execute(query, *args, **kwargs)

    async def _stream(self, execution_context: ExecutionContext, *args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        """Stream the results of an operation, and report it when it has ended."""
        operation = cast(OperationContext, execution_context)
        operation.is_stream = True
        try:
            async with aclosing(super()._stream(execution_context, *args, **kwargs)) as results:
                # Up to the first result, the only one of a query or a mutation. A span may not stay
                # current while the consumer, perhaps another task, has control.
                with tracing.span("graphql", "server"):
                    first = await anext(results, None)
                    operation.describe_span()
                if first is not None:
                    yield first
                async for result in results:
                    yield result
        finally:
            operation.report()

    def _create_execution_context(
        self,
        query: str | None,
        allowed_operation_types: Iterable[OperationType],
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        root_value: Any | None = None,
        operation_name: str | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> OperationContext:
        return OperationContext(
            query=query,
            schema=self,
            allowed_operations=allowed_operation_types,
            context=context_value,
            root_value=root_value,
            variables=variable_values,
            provided_operation_name=operation_name,
            operation_extensions=operation_extensions,
        )

    async def _prepare_operation_async(
        self, context: ExecutionContext, extensions_runner: SchemaExtensionsRunner
    ) -> PreExecutionError | None:
        """Admit the operation.

        Strawberry's method runs the first of several operations and applies limits too late.
        """
        if not context.query:
            raise MissingQueryError
        operation = cast(OperationContext, context)
        try:
            await self._admit(operation)
        except OperationRefused as refused:
            errors = refused.errors
        except Problem as problem:
            errors = [GraphQLError(problem.detail, original_error=problem)]
        else:
            operation.begin()
            return None
        context.pre_execution_errors = errors
        return PreExecutionError(data=None, errors=errors)

    async def _admit(self, operation: OperationContext) -> None:
        """Check the limits of the operation, and take its price. Raises OperationRefused, Limit, Forbidden."""
        text, name, variables = operation.query or "", operation.operation_name, operation.variables or {}
        try:
            with working_for(_owner(operation)):
                admitted = await admit_off_loop(self._schema, text, name, variables)
        except OperationRefused:
            await operation.take_price(1)
            raise
        operation.graphql_document, operation.cost = admitted.document, admitted.points
        if operation.operation_type not in operation.allowed_operations:
            is_streamed = operation.operation_type is OperationType.SUBSCRIPTION
            kind = SubscriptionNotStreamedError if is_streamed else InvalidOperationTypeError
            raise kind(operation.operation_type)
        if not operation.policy.allows_introspection and reads_schema(self._schema, admitted.document, text):
            raise Forbidden("This server does not show its schema (TREADLE_INTROSPECTION is off).")
        await operation.take_price(admitted.points)
        if operation.operation_type is OperationType.SUBSCRIPTION:
            operation.hold_subscription()

    async def _execute_operation(self, execution_context: ExecutionContext, *args: Any, **kwargs: Any) -> Any:
        """Execute an admitted operation in its time. Large values in its variables are checked in a thread."""
        work = super()._execute_operation(execution_context, *args, **kwargs)
        seconds = cast(OperationContext, execution_context).policy.operation_s
        if execution_context.operation_type is OperationType.MUTATION:
            seconds += LONGEST_WAIT_S
        try:
            async with asyncio.timeout(seconds) as limit:
                if not is_large(execution_context.variables or {}):
                    return await work
                with working_for(_owner(execution_context)):
                    return await suspendable(work)
        except TimeoutError:
            if not limit.expired():
                raise
            return GraphQLExecutionResult(None, [_took_too_long(cast(OperationContext, execution_context), seconds)])

    async def _handle_execution_result(self, context: ExecutionContext, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Replace the errors of every result by those that clients may see.

        Where execution never began, as with a variable of a wrong type, no error has a path.
        """
        result = await super()._handle_execution_result(context, *args, **kwargs)
        operation = cast(OperationContext, context)
        if result.errors:
            operation.is_failed = True
            result.errors = [client_error(error) for error in result.errors]
            if result.data is None and all(error.path is None for error in result.errors):
                result = PreExecutionError(None, result.errors, result.extensions)
        if operation.wants_cost and operation.cost is not None:
            cost = {"points": operation.cost, "maxPoints": MAX_COST, **used_by_response()}
            result.extensions = {**(result.extensions or {}), "cost": cost}
        if not operation.is_stream:
            operation.report()
        return result

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log nothing here: Strawberry logs invalid operations as faults.

        `client_error` logs real faults.
        """


def _took_too_long(operation: OperationContext, seconds: float) -> GraphQLError:
    return GraphQLError(
        f"The operation took more than {seconds:g} s (TREADLE_OPERATION_S), and was stopped. Ask for less, or in smaller "
        "pages. What a mutation had changed stays changed.",
        path=[operation.field_name],  # An error without a path says that nothing was executed.
        extensions={"code": ProblemCode.LIMIT},
    )


def _owner(context: ExecutionContext) -> Owner:
    """Return for whom the work of an operation is done. Callers take turns."""
    caller = getattr(context.context, "caller", None)
    return NOBODY if caller is None else Owner(caller.subject, caller.subject)


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[*PROBLEM_TYPES, *EVENT_TYPES, *WAIT_TYPES],
    config=StrawberryConfig(scalar_map=SCALARS),
    execution_context_class=BudgetedExecutor,
)


def _without_null_defaults(graph: GraphQLSchema) -> None:
    """Remove defaults of null from the printed schema: an optional argument needs none.

    Python's defaults still apply.
    """
    for kind in graph.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            arguments = list(kind.fields.values())
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            arguments = [argument for field in kind.fields.values() for argument in field.args.values()]
        else:
            continue
        for argument in arguments:
            if argument.default_value is None:
                argument.default_value = Undefined


def _let_roots_fail_alone(graph: GraphQLSchema) -> None:
    """Make the root fields of queries and mutations nullable.

    An error of one of them would otherwise discard the others, also the result of a mutation that
    has been committed before.
    """
    for root in (graph.query_type, graph.mutation_type):
        assert root is not None
        for root_field in root.fields.values():
            if isinstance(root_field.type, GraphQLNonNull):
                root_field.type = root_field.type.of_type


_without_null_defaults(schema._schema)
_let_roots_fail_alone(schema._schema)
check_strings(schema._schema)
describe(schema._schema)


def client_cache() -> dict[str, Any]:
    """Return what normalised caches of clients need to know about the schema.

    `keyless` are the types without a global id, which graphcache (urql) embeds in their parents.
    `possibleTypes` are the types of interfaces and unions, as Apollo Client takes them.
    """
    graph = schema._schema
    roots = {root.name for root in (graph.query_type, graph.mutation_type, graph.subscription_type) if root}
    types = sorted(graph.type_map.values(), key=lambda kind: kind.name)
    objects = [kind for kind in types if isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__")]
    return {
        "keyless": [kind.name for kind in objects if "id" not in kind.fields and kind.name not in roots],
        "possibleTypes": {
            kind.name: sorted(member.name for member in graph.get_possible_types(kind))
            for kind in types
            if isinstance(kind, GraphQLInterfaceType | GraphQLUnionType)
        },
    }


def as_sdl() -> str:
    """Return the schema in SDL, as it is committed in schema/schema.graphql."""
    return schema.as_str() + "\n"
