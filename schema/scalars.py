"""What scalars let in and out. Whatever text or JSON comes in can be stored, and whatever moment goes out is UTC."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import strawberry
from graphql import GraphQLError, GraphQLScalarType, GraphQLSchema, ValueNode
from strawberry.scalars import JSON as JSON
from strawberry.types.scalar import ScalarDefinition

from engine.errors import NotStorable
from engine.values.storable import check_storable


def _to_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _to_moment(text: object) -> datetime:
    if not isinstance(text, str):
        raise GraphQLError("A DateTime is text as in RFC 3339: 2026-01-31T12:00:00Z.")
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise GraphQLError(f"{text!r} has no time zone; write 2026-01-31T12:00:00Z.")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # The first or the last year there is, in another time zone.
        raise GraphQLError(f"{text!r} is no DateTime as in RFC 3339: 2026-01-31T12:00:00Z.") from None


def _to_json(value: object) -> object:
    try:
        check_storable(value)
    except NotStorable as wrong:
        raise GraphQLError(str(wrong)) from None
    return value


def _as_it_is(value: object) -> object:
    return value


SCALARS: dict[object, ScalarDefinition] = {
    JSON: strawberry.scalar(name="JSON", description="Any JSON value.", serialize=_as_it_is, parse_value=_to_json),
    datetime: strawberry.scalar(
        name="DateTime", description="RFC 3339, always UTC.", serialize=_to_text, parse_value=_to_moment
    ),
}


def check_texts(graph: GraphQLSchema) -> None:
    """Lets `String` and `ID` refuse what Postgres cannot keep, NUL and half of a surrogate pair, and `ID` what names nothing.

    An empty id would otherwise be taken for one that was left out. graphql-core has one scalar of each name for all schemas
    and lets nobody define another. In this process there is one schema.
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
    def checked(given: object, *more: object) -> Any:
        text = coerce(given, *more)
        node = given if isinstance(given, ValueNode) else None
        if is_id and text == "":
            raise GraphQLError("an ID is never empty; leave out what is not meant", node)
        try:
            check_storable(text)
        except NotStorable as wrong:
            raise GraphQLError(str(wrong), node) from None
        return text

    return checked
