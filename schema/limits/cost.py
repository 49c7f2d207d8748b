"""What an operation costs: about as many points as its answer may hold objects, lists inside lists multiplied.

It is worked out for valid operations only, once as a tree of weights, and summed up with the variables of each call.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLNamedType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    NamedTypeNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)

MAX_COST = 20_000
EVENTS, LIST = 100, 10
"""How long a list is taken to be: one of events where nothing is asked for, and one that has no pages, as `nodeStates`."""
MAX_ITEMS = 1000
"""No page is larger: what asks for more is told so by its field, and not by what it would have cost."""
HEAVY = {"validateSpec": 1000, "evaluateExpression": 100, "evaluate": 100, "problems": 10, "completedNodes": 10}
"""Fields that work on a text or a spec, instead of reading what is stored."""
TYPES, OF_TYPE = 100, 3
"""How many types introspection lists, and what it lists of each. It reads no store, so ten of its objects count as one."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many items a field gives: what the first of the variables with a value says, else `otherwise`."""

    otherwise: int = 1
    variables: tuple[str, ...] = ()

    def of(self, variables: Mapping[str, Any]) -> int:
        given = (variables.get(name) for name in self.variables)
        sizes = (len(one) if isinstance(one, list) else one for one in given)
        return next((min(size, MAX_ITEMS) for size in sizes if isinstance(size, int) and size > 0), self.otherwise)


ONE = Count()


@dataclass(frozen=True, slots=True)
class OperationCost:
    """`count` times what each item costs: `own`, and what is inside."""

    count: Count
    own: int
    inner: tuple["OperationCost", ...] = ()

    def cost(self, variables: Mapping[str, Any]) -> int:
        return self.count.of(variables) * (self.own + sum(one.cost(variables) for one in self.inner))


def operation_cost(schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> OperationCost:
    """The weight of one operation of a valid document."""
    root = schema.get_root_type(operation.operation)
    assert root is not None
    return OperationCost(ONE, 0, tuple(_Scale(schema, document, operation).inside(root, operation.selection_set, None)))


class _Scale:
    """Recursion is as deep as validation lets fields and fragments be."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        definitions = document.definitions
        self._fragments = {one.name.value: one for one in definitions if isinstance(one, FragmentDefinitionNode)}
        self._defaults = {one.variable.name.value: one.default_value for one in operation.variable_definitions or ()}

    def inside(
        self, kind: GraphQLNamedType, selections: SelectionSetNode, page: Count | None
    ) -> Iterator[OperationCost]:
        """All that is selected on `kind`. `page` is how long its lists are, where it is a page."""
        for one in selections.selections:
            match one:
                case FieldNode():
                    yield from self._field(kind, one, page)
                case InlineFragmentNode(type_condition=condition, selection_set=inner):
                    yield from self.inside(self._named(condition, kind), inner, page)
                case FragmentSpreadNode():
                    fragment = self._fragments[one.name.value]
                    yield from self.inside(self._named(fragment.type_condition, kind), fragment.selection_set, page)

    def _named(self, condition: NamedTypeNode | None, kind: GraphQLNamedType) -> GraphQLNamedType:
        return kind if condition is None else self._schema.type_map[condition.name.value]

    def _field(self, kind: GraphQLNamedType, node: FieldNode, page: Count | None) -> Iterator[OperationCost]:
        assert is_composite_type(kind)  # Only of such can a field be asked, once a document is valid.
        field = self._schema.get_field(kind, node.name.value)
        assert field is not None
        given, own = get_named_type(field.type), HEAVY.get(node.name.value, 0)
        if node.selection_set is None:
            if own := own + (given.name == "JSON"):
                yield OperationCost(ONE, own)
            return
        is_page = "first" in field.args
        inner = tuple(self.inside(given, node.selection_set, self._size(node, field) if is_page else None))
        count = self._length(node, field, page) if is_list_type(get_nullable_type(field.type)) else ONE
        weight = OperationCost(count, own + 1, inner)
        is_introspection = given.name.startswith("__") and not kind.name.startswith("__")
        yield OperationCost(ONE, 1 + weight.cost({}) // 10) if is_introspection else weight

    def _length(self, node: FieldNode, field: GraphQLField, page: Count | None) -> Count:
        """Of a list: that of the page it is on; else as long as what is given to it, or as such lists are."""
        if page is not None:
            return page
        if "ids" in field.args:
            return self._said(node, ("ids",), LIST)
        if get_named_type(field.type).name.startswith("__"):
            return Count(TYPES if node.name.value == "types" else OF_TYPE)
        return Count(LIST)

    def _size(self, node: FieldNode, field: GraphQLField) -> Count:
        """Of a page."""
        default = field.args["first"].default_value
        return self._said(node, ("first", "last"), default if isinstance(default, int) else EVENTS)

    def _said(self, node: FieldNode, names: tuple[str, ...], otherwise: int) -> Count:
        """What the arguments say: a literal at once, a variable when its value is known."""
        given = [one.value for one in node.arguments or () if one.name.value in names]
        variables = [value.name.value for value in given if isinstance(value, VariableNode)]
        literals = [*given, *(self._defaults.get(name) for name in variables)]
        known = next((count for value in literals if (count := _literal(value)) is not None), otherwise)
        return Count(known, tuple(variables))


def _literal(value: ValueNode | None) -> int | None:
    if isinstance(value, ListValueNode):
        return len(value.values)
    return max(0, min(int(value.value), MAX_ITEMS)) if isinstance(value, IntValueNode) else None
