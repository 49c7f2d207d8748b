"""How much may be in the lists and objects of variables: told before any of it is looked at. JSON has limits of its own."""

from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLSchema,
    OperationDefinitionNode,
    get_nullable_type,
    type_from_ast,
)

MAX_ITEMS = 1000
"""More than any field takes: the nodes of a spec, the ids of one query."""


def too_many(schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> str | None:
    """What has too much in it, with the limit; None for variables that are fine."""
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        for path, count in _counts(f"${name}", type_from_ast(schema, definition.type), variables.get(name)):
            if count > MAX_ITEMS:
                return f"{path} has {count:,} values, over the limit of {MAX_ITEMS:,}."
    return None


def _counts(path: str, kind: Any, value: object) -> Iterator[tuple[str, int]]:
    """(path, how much is in it), of each before what is inside of it."""
    kind = get_nullable_type(kind)
    if isinstance(kind, GraphQLList) and isinstance(value, list):
        yield path, len(value)
        for number, item in enumerate(value):
            yield from _counts(f"{path}[{number}]", kind.of_type, item)
    elif isinstance(kind, GraphQLInputObjectType) and isinstance(value, dict):
        yield path, len(value)
        for name, field in kind.fields.items():
            yield from _counts(f"{path}.{name}", field.type, value.get(name))
