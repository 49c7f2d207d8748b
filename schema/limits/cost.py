"""Cost of an operation in points: about one for each object that it may return.

Nested lists multiply. The cost is a tree that is built once for each operation of a valid document.
Its points are summed for each call, with the variables of that call.
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
"""Assumed lengths: of a page without a default length (events), and of a list without pages."""
MAX_ITEMS = 1000
"""No page is longer. A field refuses a larger number with its own message, so the cost does not
count it."""
HEAVY = {"validateSpec": 1000, "evaluateExpression": 100, "evaluate": 100, "problems": 10, "completedNodes": 10}
"""Extra points of fields that compute something, such as the validation of a spec."""
TYPES, OF_TYPE = 100, 3
"""Assumed lengths in introspection: of the list of types, and of the lists in one type.
Introspection reads no store, so ten of its objects cost one point."""


@dataclass(frozen=True, slots=True)
class Count:
    """Number of items of a field: the first of the variables with a value, else `otherwise`."""

    otherwise: int = 1
    variables: tuple[str, ...] = ()

    def of(self, variables: Mapping[str, Any]) -> int:
        """Return the number for one call. A list of ids counts as its length."""
        values = (variables.get(name) for name in self.variables)
        sizes = (len(value) if isinstance(value, list) else value for value in values)
        return next((min(size, MAX_ITEMS) for size in sizes if isinstance(size, int) and size > 0), self.otherwise)


ONE = Count()


@dataclass(frozen=True, slots=True)
class OperationCost:
    """Tree of costs: `count` items, each with `own` points and the points of its `inner` costs."""

    count: Count
    own: int
    inner: tuple["OperationCost", ...] = ()

    def points(self, variables: Mapping[str, Any]) -> int:
        """Return the points for the variables of one call."""
        return self.count.of(variables) * (self.own + sum(cost.points(variables) for cost in self.inner))


def operation_cost(schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> OperationCost:
    """Return the cost of one operation of a valid document."""
    root = schema.get_root_type(operation.operation)
    assert root is not None
    estimator = _CostEstimator(schema, document, operation)
    return OperationCost(ONE, 0, tuple(estimator.selection_costs(root, operation.selection_set, None)))


class _CostEstimator:
    """Walks the selections of one operation.

    Its recursion is as deep as admission lets fields and fragments be.
    """

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        definitions = document.definitions
        self._fragments = {node.name.value: node for node in definitions if isinstance(node, FragmentDefinitionNode)}
        self._defaults = {node.variable.name.value: node.default_value for node in operation.variable_definitions or ()}

    def selection_costs(
        self, parent: GraphQLNamedType, selections: SelectionSetNode, page_length: Count | None
    ) -> Iterator[OperationCost]:
        """Yield the cost of each field selected on `parent`.

        Args:
            parent: The type that the fields are selected on.
            selections: The selected fields and fragments.
            page_length: The length of the lists of `parent` where it is a page, else None.
        """
        for node in selections.selections:
            match node:
                case FieldNode():
                    yield from self._field_cost(parent, node, page_length)
                case InlineFragmentNode(type_condition=condition, selection_set=inner):
                    yield from self.selection_costs(self._type_of(condition, parent), inner, page_length)
                case FragmentSpreadNode():
                    fragment = self._fragments[node.name.value]
                    type_ = self._type_of(fragment.type_condition, parent)
                    yield from self.selection_costs(type_, fragment.selection_set, page_length)

    def _type_of(self, condition: NamedTypeNode | None, parent: GraphQLNamedType) -> GraphQLNamedType:
        return parent if condition is None else self._schema.type_map[condition.name.value]

    def _field_cost(
        self, parent: GraphQLNamedType, node: FieldNode, page_length: Count | None
    ) -> Iterator[OperationCost]:
        assert is_composite_type(parent)  # A valid document selects fields on no other type.
        field = self._schema.get_field(parent, node.name.value)
        assert field is not None
        type_, own = get_named_type(field.type), HEAVY.get(node.name.value, 0)
        if node.selection_set is None:
            if own := own + (type_.name == "JSON"):
                yield OperationCost(ONE, own)
            return
        is_page = "first" in field.args
        inner_length = self._page_length(node, field) if is_page else None
        inner = tuple(self.selection_costs(type_, node.selection_set, inner_length))
        count = self._list_length(node, field, page_length) if is_list_type(get_nullable_type(field.type)) else ONE
        cost = OperationCost(count, own + 1, inner)
        is_introspection = type_.name.startswith("__") and not parent.name.startswith("__")
        yield OperationCost(ONE, 1 + cost.points({}) // 10) if is_introspection else cost

    def _list_length(self, node: FieldNode, field: GraphQLField, page_length: Count | None) -> Count:
        """Return the length of a list: that of its page, of its argument `ids`, or assumed."""
        if page_length is not None:
            return page_length
        if "ids" in field.args:
            return self._argument_count(node, ("ids",), LIST)
        if get_named_type(field.type).name.startswith("__"):
            return Count(TYPES if node.name.value == "types" else OF_TYPE)
        return Count(LIST)

    def _page_length(self, node: FieldNode, field: GraphQLField) -> Count:
        default = field.args["first"].default_value
        return self._argument_count(node, ("first", "last"), default if isinstance(default, int) else EVENTS)

    def _argument_count(self, node: FieldNode, names: tuple[str, ...], otherwise: int) -> Count:
        """Read a count from arguments: a literal now, a variable in each call."""
        values = [argument.value for argument in node.arguments or () if argument.name.value in names]
        variables = [value.name.value for value in values if isinstance(value, VariableNode)]
        literals = [*values, *(self._defaults.get(name) for name in variables)]
        known = next((count for value in literals if (count := _literal_count(value)) is not None), otherwise)
        return Count(known, tuple(variables))


def _literal_count(value: ValueNode | None) -> int | None:
    if isinstance(value, ListValueNode):
        return len(value.values)
    return max(0, min(int(value.value), MAX_ITEMS)) if isinstance(value, IntValueNode) else None
