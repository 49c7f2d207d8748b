"""Payloads of mutations, and the decorator that turns domain exceptions into their `errors`."""

from collections.abc import Callable
from typing import Any, TypeVar

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.types.field import StrawberryField

from persistence.problems import Problem
from schema.problem import ProblemType, ProblemValue

PayloadT = TypeVar("PayloadT", bound="Payload")


@strawberry.type
class Payload:
    """Base of every payload. All other fields are null where `errors` is not empty."""

    errors: list[ProblemType] = strawberry.field(default_factory=list)


def payload(kind: type[PayloadT], **fields: Any) -> PayloadT:
    """Return a payload of domain objects.

    Its types differ from the annotations: Strawberry reads attributes by name.
    """
    return kind(**fields)


class ProblemsAsErrors(FieldExtension):
    """Turns a Problem into a payload with `errors`.

    Any other exception is a fault and stays a top-level error.
    """

    def apply(self, field: StrawberryField) -> None:
        self._field = field

    async def resolve_async(self, next_: Callable[..., Any], source: Any, info: strawberry.Info, **kwargs: Any) -> Any:
        try:
            return await next_(source, info, **kwargs)
        except Problem as problem:
            kind: Any = self._field.type
            return kind(errors=[ProblemValue(problem)])


def mutation(resolver: Callable[..., Any]) -> Any:
    """Decorate the resolver of a mutation; its docstring becomes the description of the field."""
    return strawberry.mutation(resolver, extensions=[ProblemsAsErrors()], description=resolver.__doc__)
