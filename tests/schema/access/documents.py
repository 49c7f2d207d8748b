"""Generates operations from the schema, and records which parts of the schema they use.

A selection has every field of a type. It descends into objects without an id of their own; of a
`Node` it takes the id only, because each `Node` is read by an operation of its own.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    get_named_type,
    is_abstract_type,
    is_enum_type,
    is_leaf_type,
)

from schema.schema import schema

GRAPH = schema._schema
ROOTS = {"query": "Query", "mutation": "Mutation", "subscription": "Subscription"}
SECOND = "second_"
"""The alias of a list that is read from its end."""
FROM_START, FROM_END = ("first", "after"), ("last", "before")


def object_type(name: str) -> GraphQLObjectType:
    kind = GRAPH.get_type(name)
    assert isinstance(kind, GraphQLObjectType)
    return kind


def all_parts() -> set[str]:
    """Return every field, argument and input field of the schema, as `Type.field` and `Type.field.argument`."""
    parts: set[str] = set()
    for name, kind in GRAPH.type_map.items():
        if name.startswith("__"):
            continue
        if isinstance(kind, GraphQLObjectType):
            parts |= {f"{name}.{field}" for field in kind.fields}
            parts |= {f"{name}.{field}.{arg}" for field, value in kind.fields.items() for arg in value.args}
        elif isinstance(kind, GraphQLInputObjectType):
            parts |= {f"{name}.{field}" for field in kind.fields}
    return parts


@dataclass
class Coverage:
    """The parts of the schema that operations have used, and the types of objects that they have returned."""

    used: set[str] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)

    def note_data(self, value: Any) -> None:
        """Note the types of the objects in the data of a response."""
        if isinstance(value, list):
            for item in value:
                self.note_data(item)
        elif isinstance(value, dict):
            self.reached |= {value["__typename"]} if "__typename" in value else set()
            self.note_data(list(value.values()))

    def note_input(self, kind: Any, value: Any) -> None:
        """Note the input fields of a variable."""
        named = get_named_type(kind)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(named, GraphQLInputObjectType) and isinstance(item, dict):
                for name, inner in item.items():
                    self.used.add(f"{named.name}.{name}")
                    self.note_input(named.fields[name].type, inner)


class Selections:
    """Makes selections, with arguments of nested fields."""

    def __init__(self, arguments: Mapping[str, Mapping[str, Any]], coverage: Coverage) -> None:
        """`arguments` are the values of nested arguments by `Type.field`; those of pages are added."""
        self._arguments, self._coverage = arguments, coverage
        self._selected = set[str]()

    def of(self, kind: Any, on: str | None = None) -> str:
        """Return the selection of a field with this type.

        Each type is selected in full once in an operation, which keeps it within the limit of fields.

        Args:
            kind: The type of the field.
            on: The only member of an interface to select; None for all.
        """
        named = get_named_type(kind)
        if is_leaf_type(named):
            return ""
        members = GRAPH.get_possible_types(named) if is_abstract_type(named) else [named]
        if on is None and (isinstance(named, GraphQLInterfaceType) and named.name == "Node"):
            return "{ __typename id }"
        chosen = [one for one in members if on in (None, one.name) and one.name not in self._selected]
        self._selected |= {one.name for one in chosen}
        parts = [f"... on {one.name} {{ {' '.join(self._fields(one))} }}" for one in chosen]
        return f"{{ __typename {' '.join(parts)} }}"

    def _fields(self, kind: GraphQLObjectType) -> Iterator[str]:
        for name, value in kind.fields.items():
            target = get_named_type(value.type)
            selected = "{ __typename id }" if is_node(target) else self.of(target)
            for prefix, arguments in self._variants(kind, name, value):
                self._coverage.used |= {f"{kind.name}.{name}", *(f"{kind.name}.{name}.{arg}" for arg in arguments)}
                written = ", ".join(f"{arg}: {text}" for arg, text in arguments.items())
                yield f"{prefix}{name}{f'({written})' if written else ''} {'{ __typename }' if prefix else selected}"

    def _variants(
        self, kind: GraphQLObjectType, name: str, value: GraphQLField
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield aliases and arguments: one for a page from the start, and one for a page from the end."""
        paged = {arg: self._page_argument(value, arg) for arg in (*FROM_START, *FROM_END) if arg in value.args}
        place = f"{kind.name}.{name}"
        yield "", self._fixed(value, place) | {arg: text for arg, text in paged.items() if arg in FROM_START}
        if paged.keys() & set(FROM_END):
            from_end = {arg: text for arg, text in paged.items() if arg in FROM_END}
            yield f"{SECOND}{name}: ", self._fixed(value, place, f"{place} from the end") | from_end

    def _fixed(self, value: GraphQLField, *places: str) -> dict[str, str]:
        given = {arg: item for place in places for arg, item in self._arguments.get(place, {}).items()}
        return {arg: literal(value.args[arg].type, item) for arg, item in given.items()}

    def _page_argument(self, value: GraphQLField, arg: str) -> str:
        if arg in ("first", "last"):
            return "5"
        if get_named_type(value.args[arg].type).name == "Int":
            return "0" if arg == "after" else "1000000"
        node = get_named_type(value.type).name.removesuffix("Connection")
        return json.dumps(self._arguments["cursors"].get(f"{arg} {node}"))


def is_node(kind: Any) -> bool:
    return isinstance(kind, GraphQLObjectType) and any(one.name == "Node" for one in kind.interfaces)


def literal(kind: Any, value: Any) -> str:
    """Return a value of a type as text of a document."""
    named = get_named_type(kind)
    if isinstance(value, list):
        return f"[{', '.join(literal(named, item) for item in value)}]"
    if isinstance(value, dict) and isinstance(named, GraphQLInputObjectType):
        return f"{{{', '.join(f'{name}: {literal(named.fields[name].type, item)}' for name, item in value.items())}}}"
    return str(value) if is_enum_type(named) else json.dumps(value)


def operation(root: str, name: str, arguments: Mapping[str, Any], selection: str) -> str:
    """Return an operation with one root field, whose arguments are variables."""
    value = object_type(ROOTS[root]).fields[name]
    declared = ", ".join(f"${arg}: {value.args[arg].type}" for arg in arguments)
    passed = ", ".join(f"{arg}: ${arg}" for arg in arguments)
    head = f"{root}({declared})" if declared else root
    return f"{head} {{ {name}{f'({passed})' if passed else ''} {selection} }}"
