"""Results that fit a document and the schema: with every field set, or with every nullable field null."""

from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    OperationDefinitionNode,
    SelectionSetNode,
    build_schema,
    parse,
    validate,
)

from tests.paths import ROOT

SCHEMA: GraphQLSchema = build_schema((ROOT / "schema" / "schema.graphql").read_text("utf-8"))
SCALARS: dict[str, Any] = {
    "ID": "id_1",
    "String": "text",
    "Int": 7,
    "Float": 0.5,
    "Boolean": True,
    "DateTime": "2026-01-02T03:04:05Z",
    "JSON": {"any": ["value"]},
}


class Sample:
    """Creates results of a document.

    Args:
        text: A valid document with one operation.
        chosen: The object type to use for an interface or a union, by the name of that type.
        has_nulls: Whether nullable fields are null.
        enum_value: The value of all enums; None takes the first of each.
    """

    def __init__(
        self,
        text: str,
        *,
        chosen: dict[str, str] | None = None,
        has_nulls: bool = False,
        enum_value: str | None = None,
    ) -> None:
        document: DocumentNode = parse(text)
        assert [error.message for error in validate(SCHEMA, document)] == []
        self._fragments = {
            part.name.value: part for part in document.definitions if isinstance(part, FragmentDefinitionNode)
        }
        (self._operation,) = (part for part in document.definitions if isinstance(part, OperationDefinitionNode))
        self._chosen, self._has_nulls, self._enum_value = chosen or {}, has_nulls, enum_value

    @property
    def field(self) -> str:
        """The name of the root field."""
        (selection,) = self._operation.selection_set.selections
        assert isinstance(selection, FieldNode)
        return selection.name.value

    @property
    def input_fields(self) -> set[str]:
        """The fields of the input of a mutation, as the schema has them."""
        argument = SCHEMA.mutation_type.fields[self.field].args["input"].type  # type: ignore[union-attr]
        return set(argument.of_type.fields)  # type: ignore[union-attr]

    def data(self) -> dict[str, Any]:
        root = SCHEMA.get_root_type(self._operation.operation)
        assert root is not None
        # The root is never null here: a missing object has a test of its own.
        return self._object(root, self._operation.selection_set)

    def _value(self, kind: Any, selections: SelectionSetNode | None, *, is_root: bool) -> Any:
        if isinstance(kind, GraphQLNonNull):
            kind = kind.of_type
        elif self._has_nulls and not is_root:
            return None
        if isinstance(kind, GraphQLList):
            return [self._value(kind.of_type, selections, is_root=is_root)]
        if isinstance(kind, GraphQLEnumType):
            return self._enum_value or next(iter(kind.values))
        if selections is None:
            return SCALARS[kind.name]
        if isinstance(kind, GraphQLInterfaceType | GraphQLUnionType):
            name = self._chosen.get(kind.name) or sorted(member.name for member in SCHEMA.get_possible_types(kind))[0]
            kind = SCHEMA.type_map[name]
        return self._object(kind, selections)

    def _object(self, kind: GraphQLObjectType, selections: SelectionSetNode) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for selection in selections.selections:
            if isinstance(selection, FieldNode):
                name = selection.name.value
                is_root = kind in (SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type)
                if name == "__typename":
                    result[name] = kind.name
                else:
                    result[name] = self._value(kind.fields[name].type, selection.selection_set, is_root=is_root)
                continue
            part = self._fragments[selection.name.value] if isinstance(selection, FragmentSpreadNode) else selection
            condition = SCHEMA.type_map[part.type_condition.name.value]  # type: ignore[union-attr]
            if condition is kind or SCHEMA.is_sub_type(condition, kind):  # type: ignore[arg-type]
                result |= self._object(kind, part.selection_set)
        return result


def members(name: str) -> list[str]:
    """Return the object types of an interface or a union."""
    kind: Any = SCHEMA.type_map[name]
    return sorted(member.name for member in SCHEMA.get_possible_types(kind))
