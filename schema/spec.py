"""What clients learn about a spec or an expression without saving or running it."""

import strawberry

from schema.problem import FieldProblem
from schema.scalars import JSON


@strawberry.type
class SpecReport:
    ok: bool
    errors: list[FieldProblem]
    warnings: list[FieldProblem]
    spec_hash: str | None
    plan: list[list[strawberry.ID]] = strawberry.field(description="Nodes in the order they can run, by step.")


@strawberry.type
class ExpressionResult:
    value: JSON | None
    type: str | None
    errors: list[FieldProblem]
