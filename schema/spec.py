"""Reports about a spec or an expression that is neither saved nor run."""

import strawberry

from schema.problem import FieldProblemType
from schema.scalars import JSON


@strawberry.type
class SpecReport:
    ok: bool
    errors: list[FieldProblemType]
    warnings: list[FieldProblemType]
    spec_hash: str | None
    plan: list[list[strawberry.ID]] = strawberry.field(
        description="Node ids in the order in which they can run, by step."
    )


@strawberry.type(name="ExpressionResult")
class ExpressionResultType:
    value: JSON | None
    type: str | None
    errors: list[FieldProblemType]
