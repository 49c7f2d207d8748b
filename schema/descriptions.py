"""Descriptions of the schema that are not beside the code: descriptions.toml, by type and member.

A section is a type, `*` followed by the end of a name, or `*` for all types. In it, `_` describes the
type, `name` a field or an enum value, `name(argument)` an argument, and `(argument)` the argument of
all fields. A description in the code comes first, then the most specific section. A test fails for a
member without a description, and for a line that describes nothing.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    is_specified_scalar_type,
)

FILE = Path(__file__).with_name("descriptions.toml")
Found = tuple[str, str]
"""Section and key of a description."""


@cache
def sections() -> Mapping[str, Mapping[str, str]]:
    """Return the descriptions of the file."""
    return tomllib.loads(FILE.read_text("utf-8"))


def describe(graph: GraphQLSchema) -> None:
    """Add the descriptions of the file to everything in the schema that has none."""
    for element, names in elements(graph):
        if not element.description and (found := first(names)) is not None:
            element.description = sections()[found[0]][found[1]]


def first(names: list[Found]) -> Found | None:
    """Return the most specific of these places that the file has."""
    return next((found for found in names if found[1] in sections().get(found[0], {})), None)


def elements(graph: GraphQLSchema) -> Iterator[tuple[Any, list[Found]]]:
    """Yield each type and member of the schema, and the places of its description."""
    for kind in graph.type_map.values():
        if kind.name.startswith("__") or is_specified_scalar_type(kind):
            continue
        places = _places(kind)
        yield kind, places("_")
        if isinstance(kind, GraphQLEnumType):
            yield from ((value, places(name)) for name, value in kind.values.items())
        elif isinstance(kind, GraphQLInputObjectType):
            yield from ((field, places(name)) for name, field in kind.fields.items())
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in kind.fields.items():
                yield field, places(name)
                for key, argument in field.args.items():
                    yield argument, [*places(f"{name}({key})"), *places(f"({key})")]


def _places(kind: GraphQLNamedType) -> Callable[[str], list[Found]]:
    """Return a function of a key to its places, the most specific first."""
    ends = [name for name in sections() if len(name) > 1 and name[0] == "*" and kind.name.endswith(name[1:])]
    interfaces = [one.name for one in getattr(kind, "interfaces", ())]

    def places(key: str) -> list[Found]:
        own = [kind.name] if key == "_" else [kind.name, *interfaces]
        return [(name, key) for name in (*own, *ends, "*")]

    return places
