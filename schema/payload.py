"""How a mutation answers: a payload with `errors`, empty on success. Domain failures become its errors, once, here."""

from collections.abc import Callable
from typing import Any, TypeVar

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.types.field import StrawberryField

from persistence import problems
from schema.problem import Problem, Told

PayloadT = TypeVar("PayloadT", bound="Payload")


@strawberry.type
class Payload:
    """Base of every payload: what is not `errors` is null where there are errors."""

    errors: list[Problem] = strawberry.field(default_factory=list)


def done(kind: type[PayloadT], **fields: Any) -> PayloadT:
    """A payload of domain objects, whose attributes the types of the payload's fields read."""
    return kind(**fields)


class ProblemsAsErrors(FieldExtension):
    """Anything else that is raised is a fault, and stays a top-level error."""

    def apply(self, field: StrawberryField) -> None:
        self._field = field

    async def resolve_async(self, next_: Callable[..., Any], source: Any, info: strawberry.Info, **kwargs: Any) -> Any:
        try:
            return await next_(source, info, **kwargs)
        except problems.Problem as problem:
            kind: Any = self._field.type
            return kind(errors=[Told(problem)])


def mutation(resolver: Callable[..., Any]) -> Any:
    """A mutation field; its docstring is its description."""
    return strawberry.mutation(resolver, extensions=[ProblemsAsErrors()], description=resolver.__doc__)
