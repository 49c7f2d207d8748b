"""Payloads of mutations, their idempotency keys, and the decorators that turn exceptions into `errors`."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, TypeVar

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.types.field import StrawberryField

from persistence.mutation_keys import FirstCall
from persistence.problems import Problem
from resolvers import idempotent
from resolvers.context import Context
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


@strawberry.input
class KeyedInput:
    """Base of the inputs of `keyed_mutation`."""

    idempotency_key: str | None = strawberry.field(
        default=None,
        description="1 to 255 characters. A repeat by the same caller within 24 hours with the same key and arguments "
        "changes nothing, and returns the object of the first call as it is now; with other arguments it fails with "
        "CONFLICT. Default: every call is a new one.",
    )

    async def idempotency_arguments(self) -> dict[str, Any]:
        """Return the arguments that a repeat must have."""
        sent = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "idempotency_key"}
        return {name: value for name, value in sent.items() if value is not strawberry.UNSET}


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


class OncePerKey(ProblemsAsErrors):
    """Also executes the mutation once for each `idempotencyKey` of its input."""

    async def resolve_async(self, next_: Callable[..., Any], source: Any, info: strawberry.Info, **kwargs: Any) -> Any:
        return await super().resolve_async(partial(self._once, next_), source, info, **kwargs)

    async def _once(
        self, next_: Callable[..., Any], source: Any, info: strawberry.Info[Context, None], *, input: KeyedInput
    ) -> Any:
        act = partial(next_, source, info, input=input)
        if input.idempotency_key is None:
            return await act()
        repeat = partial(_repeat, info.context, self._field.type)
        arguments = await input.idempotency_arguments()
        name = info.field_name
        return await idempotent.call_once(info.context, input.idempotency_key, name, arguments, act, repeat)


_OBJECTS = (
    "alert_rule",
    "api_key",
    "delivery",
    "draft",
    "endpoint",
    "job",
    "project",
    "secret",
    "trigger",
    "version",
    "workflow",
)
"""The fields of payloads that have the object of a keyed mutation."""


async def _repeat(context: Context, kind: Any, first: FirstCall) -> Any:
    """Return the payload of a repeat: the object as it is now, and the facts of the first call."""
    names = {item.name for item in fields(kind)}
    facts = {name: value for name, value in first.facts.items() if name in names}
    if "deleted_id" in names:
        return payload(kind, deleted_id=first.resource_id, **facts)
    name = next((name for name in _OBJECTS if name in names), None)
    if name is None:
        raise idempotent.not_kept()
    found = await idempotent.object_of(context, first, is_draft=name == "draft")
    return payload(kind, **{name: found}, **facts)


def keyed_mutation(resolver: Callable[..., Any]) -> Any:
    """Decorate the resolver of a mutation whose input is a KeyedInput; see `mutation`."""
    return strawberry.mutation(resolver, extensions=[OncePerKey()], description=resolver.__doc__)


def mutation(resolver: Callable[..., Any]) -> Any:
    """Decorate the resolver of a mutation; its docstring becomes the description of the field."""
    return strawberry.mutation(resolver, extensions=[ProblemsAsErrors()], description=resolver.__doc__)
