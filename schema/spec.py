"""Reports about a spec or an expression that is neither saved nor run."""

from typing import Annotated

import strawberry

from engine.expressions.evaluator import ExpressionKind
from schema import enums  # noqa: F401, registers ExpressionKind
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


SAMPLE_CONTEXT = (
    "The values by the names that templates see in a run: `{input, nodes: {id: {output}}}`, and if needed `item`, "
    "`index`, `run` and any other name. Each node is available by its id as well, with `output`, `status` (COMPLETED "
    "unless you give it) and `last_output`. `Checkpoint.evaluate` has the same names with the values of the run."
)
KindArgument = Annotated[
    ExpressionKind | None,
    strawberry.argument(
        description="How the text is evaluated. Without it, a text is an expression if it can be read as one "
        "(`{{ a }} / {{ b }}` divides), and else a template (`Dear {{ name }}`)."
    ),
]
