"""Our two scalars. Whatever JSON comes in is storable, and whatever moment goes out is UTC: checked here, once."""

from datetime import UTC, datetime

import strawberry
from graphql import GraphQLError
from strawberry.scalars import JSON as JSON
from strawberry.types.scalar import ScalarDefinition

from engine.storable import NotStorable, check_storable


def _to_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _to_moment(text: object) -> datetime:
    if not isinstance(text, str):
        raise GraphQLError("A DateTime is text as in RFC 3339: 2026-01-31T12:00:00Z.")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise GraphQLError(f"{text!r} is no DateTime as in RFC 3339: 2026-01-31T12:00:00Z.") from None
    if moment.tzinfo is None:
        raise GraphQLError(f"{text!r} has no time zone; write 2026-01-31T12:00:00Z.")
    return moment.astimezone(UTC)


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
