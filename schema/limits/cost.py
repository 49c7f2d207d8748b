"""Cost of an operation in points: about one for each object that it may return.

Nested lists multiply. The cost is a tree that is built once for each operation of a valid document.
Its points are summed for each call, with the variables of that call.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
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
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)

from persistence.db.pagination import DEFAULT_PAGE

MAX_COST = 20_000
EVENTS, LIST = 100, 10
"""Assumed lengths: of a page of events by number, and of a list without pages."""
MAX_ITEMS = 1000
"""No page is longer. A field refuses a larger number with its own message, so the cost does not
count it."""
HEAVY = {
    "validateSpec": 100,
    "evaluateExpression": 100,
    "evaluate": 100,
    "specSchema": 20,
    "problems": 10,
    "completedNodes": 10,
    "nextTimes": 10,
    "stats": 50,
    "slowestNodes": 25,
    "failingNodes": 25,
    "totalCount": 25,
    "totalCountCapped": 25,
    "diffVersions": 200,
    "compareRuns": 200,
}
"""Extra points of fields that compute something, such as the validation of a spec."""
BY_SIZE = {"validateSpec": ("spec", 20), "evaluateExpression": ("context", 2)}
"""Fields whose work grows with an argument: the argument, and the points for each KiB of its JSON."""
MAX_BY_SIZE = 15_000
"""The most points of one value, so that the largest spec can be validated in an operation of its own."""
VARIABLES = 1
"""Points for each KiB of all variables together: they are parsed and checked before any field."""
TYPES, OF_TYPE = 100, 3
"""Assumed lengths in introspection: of the list of types, and of the lists in one type.
Introspection reads no store, so ten of its objects cost one point."""


class CallVariables(Mapping[str, Any]):
    """The variables of one call. The size of each is computed once."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._sizes: dict[str, int] = {}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def size(self, name: str) -> int:
        """Return the KiB of a variable as JSON; 0 if it has no value."""
        if name not in self._sizes:
            self._sizes[name] = json_kib(self._values.get(name))
        return self._sizes[name]

    def points(self) -> int:
        """Return the points for all variables together."""
        return VARIABLES * sum(map(self.size, self._values))


def json_kib(value: Any) -> int:
    """Return the KiB of a value as JSON. A value that is no JSON is refused later, so it has none."""
    try:
        return len(orjson.dumps(value)) // 1024
    except orjson.JSONEncodeError:
        return 0


@dataclass(frozen=True, slots=True)
class Size:
    """Points by the size of an argument: of a variable, or of a literal, whose `kib` are known."""

    per_kib: int
    kib: int = 0
    variables: tuple[str, ...] = ()

    def of(self, variables: CallVariables) -> int:
        """Return the points for one call."""
        return min(MAX_BY_SIZE, self.per_kib * (self.kib + sum(map(variables.size, self.variables))))


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

    count: Count | Size
    own: int
    inner: tuple["OperationCost", ...] = ()

    def points(self, variables: Mapping[str, Any]) -> int:
        """Return the points for the variables of one call."""
        call = variables if isinstance(variables, CallVariables) else CallVariables(variables)
        return self.count.of(call) * (self.own + sum(cost.points(call) for cost in self.inner))


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
        yield from self._size_cost(node)
        is_page = "first" in field.args
        inner_length = self._page_length(node, field) if is_page else None
        inner = tuple(self.selection_costs(type_, node.selection_set, inner_length))
        count = self._list_length(node, field, page_length) if is_list_type(get_nullable_type(field.type)) else ONE
        cost = OperationCost(count, own + 1, inner)
        is_introspection = type_.name.startswith("__") and not parent.name.startswith("__")
        yield OperationCost(ONE, 1 + cost.points({}) // 10) if is_introspection else cost

    def _size_cost(self, node: FieldNode) -> Iterator[OperationCost]:
        """Yield the cost of an argument whose size counts."""
        if node.name.value not in BY_SIZE:
            return
        name, per_kib = BY_SIZE[node.name.value]
        for argument in node.arguments or ():
            if argument.name.value == name:
                found = _variables_in(argument.value)
                loc = argument.value.loc
                literal = (loc.end - loc.start) // 1024 if loc is not None else 0
                yield OperationCost(Size(per_kib, literal, tuple(found)), 1)

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
        is_connection = get_named_type(field.type).name.endswith("Connection")
        default = DEFAULT_PAGE if is_connection else field.args["first"].default_value
        return self._argument_count(node, ("first", "last"), default if isinstance(default, int) else EVENTS)

    def _argument_count(self, node: FieldNode, names: tuple[str, ...], otherwise: int) -> Count:
        """Read a count from arguments: a literal now, a variable in each call."""
        values = [argument.value for argument in node.arguments or () if argument.name.value in names]
        variables = [value.name.value for value in values if isinstance(value, VariableNode)]
        literals = [*values, *(self._defaults.get(name) for name in variables)]
        known = next((count for value in literals if (count := _literal_count(value)) is not None), otherwise)
        return Count(known, tuple(variables))


def _variables_in(value: ValueNode) -> list[str]:
    """Return the names of the variables in a literal, or of the variable itself."""
    found: list[str] = []
    stack: list[ValueNode] = [value]
    while stack:
        match stack.pop():
            case VariableNode(name=name):
                found.append(name.value)
            case ListValueNode(values=values):
                stack += values
            case ObjectValueNode(fields=fields):
                stack += [field.value for field in fields]
    return found


def _literal_count(value: ValueNode | None) -> int | None:
    if isinstance(value, ListValueNode):
        return len(value.values)
    return max(0, min(int(value.value), MAX_ITEMS)) if isinstance(value, IntValueNode) else None
