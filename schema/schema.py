"""The schema as a whole, with its limits. Stateless: one for all requests of a process."""

import strawberry
from graphql import (
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
)
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from schema.errors import ShownErrors
from schema.mutation import Mutation
from schema.operation_cache import OperationCache
from schema.problem import PROBLEM_TYPES
from schema.query import Query
from schema.scalars import SCALARS, check_texts
from schema.subscription import EVENT_TYPES, Subscription
from schema.wait import WAIT_TYPES

MAX_DEPTH = 15
MAX_ALIASES = 50
MAX_TOKENS = 10_000
"""Specs and inputs belong into variables, which are not counted."""


class Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Strawberry would log a client's typing errors like faults; ShownErrors logs what is one."""


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[*PROBLEM_TYPES, *EVENT_TYPES, *WAIT_TYPES],
    extensions=[
        ShownErrors,
        lambda: MaxTokensLimiter(MAX_TOKENS),
        lambda: QueryDepthLimiter(MAX_DEPTH),
        lambda: MaxAliasesLimiter(MAX_ALIASES),
        OperationCache,
    ],
    config=StrawberryConfig(scalar_map=SCALARS),
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
