"""Writes the reference of the API as Markdown: one page per root type, and one for the other types.

The source is `schema/schema.graphql`, whose descriptions are the text.
"""

from collections.abc import Iterator, Mapping

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    get_named_type,
    is_specified_scalar_type,
    print_ast,
)

Typed = GraphQLField | GraphQLArgument | GraphQLInputField
KINDS = {
    GraphQLObjectType: "Object",
    GraphQLInterfaceType: "Interface",
    GraphQLUnionType: "Union",
    GraphQLEnumType: "Enum",
    GraphQLInputObjectType: "Input",
}


def pages(sdl: str) -> dict[str, str]:
    """Return the text of each page by its name."""
    schema = build_schema(sdl)
    roots = {
        "queries": schema.query_type,
        "mutations": schema.mutation_type,
        "subscriptions": schema.subscription_type,
    }
    found = {name: "\n".join(_root_page(name, root)) for name, root in roots.items() if root is not None}
    return {**found, "types": "\n".join(_types_page(schema, set(roots.values())))}


def _root_page(name: str, root: GraphQLObjectType) -> Iterator[str]:
    yield f"# {name.capitalize()}\n"
    for field_name, field in sorted(root.fields.items()):
        yield f"## {field_name}\n"
        yield f"Returns {_link(field)}.\n"
        yield from _description(field)
        yield from _arguments(field)


def _arguments(field: GraphQLField) -> Iterator[str]:
    """Yield the table of the arguments, or the fields of `input` if it is the only one."""
    kinds = {name: get_named_type(argument.type) for name, argument in field.args.items()}
    only = kinds.get("input") if len(kinds) == 1 else None
    if isinstance(only, GraphQLInputObjectType):
        yield from _table("Field of `input`", only.fields)
    elif field.args:
        yield from _table("Argument", field.args)


def _types_page(schema: GraphQLSchema, roots: set[GraphQLObjectType | None]) -> Iterator[str]:
    yield "# Types\n"
    for name, kind in sorted(schema.type_map.items()):
        if kind not in roots and not name.startswith("__") and not is_specified_scalar_type(kind):
            yield f"## {name}\n"
            yield f"*{KINDS.get(type(kind), 'Scalar')}*\n"
            yield from _description(kind)
            yield from _members(kind)


def _members(kind: GraphQLNamedType) -> Iterator[str]:
    match kind:
        case GraphQLUnionType():
            yield "One of " + ", ".join(f"[`{member.name}`](#{member.name.lower()})" for member in kind.types) + ".\n"
        case GraphQLEnumType():
            yield "| Value | Meaning |\n|---|---|"
            yield from (f"| `{name}` | {_cell(value.description)} |" for name, value in kind.values.items())
            yield ""
        case GraphQLObjectType() | GraphQLInterfaceType() | GraphQLInputObjectType():
            yield from _table("Field", kind.fields)


def _table(head: str, members: Mapping[str, Typed]) -> Iterator[str]:
    yield f"| {head} | Type | Meaning |\n|---|---|---|"
    for name, member in members.items():
        yield f"| `{name}` | {_link(member)} | {_cell(_text(member))} |"
    yield ""


def _text(member: Typed) -> str:
    parts = [member.description or ""]
    default = getattr(member.ast_node, "default_value", None)
    if default is not None and "Default: " not in parts[0]:
        parts.append(f"Default: `{print_ast(default)}`.")
    if member.deprecation_reason:
        parts.append(f"Deprecated: {member.deprecation_reason}")
    if isinstance(member, GraphQLField) and member.args:
        parts.append("Arguments: " + ", ".join(f"`{name}: {arg.type}`" for name, arg in member.args.items()) + ".")
    return " ".join(filter(None, parts))


def _description(item: GraphQLNamedType | GraphQLField) -> Iterator[str]:
    if item.description:
        yield f"{item.description}\n"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _link(member: Typed) -> str:
    named = get_named_type(member.type)
    shown = f"`{member.type}`"
    return shown if is_specified_scalar_type(named) else f"[{shown}](types.md#{named.name.lower()})"
