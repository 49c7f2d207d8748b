"""Scalars: text and JSON must be storable in Postgres, and times are in UTC."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import strawberry
from graphql import GraphQLError, GraphQLScalarType, GraphQLSchema, ValueNode
from strawberry.scalars import JSON as JSON
from strawberry.types.scalar import ScalarDefinition

from engine.errors import NotStorable
from engine.values.large_values import off_loop
from engine.values.storable import check_storable, stored_form


def _format_time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _parse_time(text: object) -> datetime:
    if not isinstance(text, str):
        raise GraphQLError("A DateTime is a string in RFC 3339 format: 2026-01-31T12:00:00Z.")
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise GraphQLError(f"{text!r} has no time zone; write 2026-01-31T12:00:00Z.")
        return time.astimezone(UTC)
    except (ValueError, OverflowError):  # In UTC it would be before year 1 or after year 9999.
        raise GraphQLError(f"{text!r} is not a DateTime in RFC 3339 format: 2026-01-31T12:00:00Z.") from None


def _parse_json(value: object) -> object:
    try:
        return off_loop(stored_form, value)
    except NotStorable as error:
        raise GraphQLError(str(error)) from None


def _unchanged(value: object) -> object:
    return value


SCALARS: dict[object, ScalarDefinition] = {
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=_unchanged,
        parse_value=_parse_json,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="RFC 3339, always UTC.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_format_time,
        parse_value=_parse_time,
    ),
}


def check_strings(graph: GraphQLSchema) -> None:
    """Make `String` and `ID` refuse text that Postgres cannot store, and `ID` refuse empty text.

    Postgres stores neither NUL nor lone surrogates. An empty id would be treated like an omitted
    one. graphql-core shares one `String` and one `ID` between all schemas and does not let a
    schema define its own, so this changes the scalars themselves. A process has only one schema.
    """
    for name in ("String", "ID"):
        scalar = graph.type_map[name]
        assert isinstance(scalar, GraphQLScalarType)
        for coercer in ("coerce_input_value", "coerce_input_literal"):
            coerce = getattr(scalar, coercer)
            if coerce is not None and not hasattr(coerce, "__wrapped__"):
                setattr(scalar, coercer, _checked(coerce, is_id=name == "ID"))


def _checked(coerce: Callable[..., Any], *, is_id: bool) -> Callable[..., Any]:
    @wraps(coerce)
    def checked(value: object, *rest: object) -> Any:
        text = coerce(value, *rest)
        node = value if isinstance(value, ValueNode) else None
        if is_id and text == "":
            raise GraphQLError("an ID must not be empty; omit the field instead", node)
        try:
            check_storable(text)
        except NotStorable as error:
            raise GraphQLError(str(error), node) from None
        return text

    return checked
