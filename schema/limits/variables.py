"""Limit of the values in variables, checked before graphql-core coerces any.

JSON values have limits of their own.
"""

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

MAX_VALUES = 1000
"""Values in one list or object. No field takes more: neither the nodes of a spec nor the ids of
a query."""


def variables_problem(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> str | None:
    """Return a message for the first list or object with too many values, else None."""
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        for path, count in _counts(f"${name}", type_from_ast(schema, definition.type), variables.get(name)):
            if count > MAX_VALUES:
                return f"{path} has {count:,} values, over the limit of {MAX_VALUES:,}."
    return None


def _counts(path: str, type_: Any, value: object) -> Iterator[tuple[str, int]]:
    """Yield (path, number of values) of every list and object, the outer before the inner ones."""
    type_ = get_nullable_type(type_)
    if isinstance(type_, GraphQLList) and isinstance(value, list):
        yield path, len(value)
        for number, item in enumerate(value):
            yield from _counts(f"{path}[{number}]", type_.of_type, item)
    elif isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
        yield path, len(value)
        for name, field in type_.fields.items():
            yield from _counts(f"{path}.{name}", field.type, value.get(name))
