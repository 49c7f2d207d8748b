"""Problems as clients see them. Each type shows one exception class of persistence/problems.py."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from engine.states import RunStatus, Severity
from persistence import problems
from persistence.problems import ProblemCode
from schema import enums as enums

if TYPE_CHECKING:
    from schema.workflows.draft import WorkflowDraft


@dataclass(frozen=True, slots=True)
class ProblemValue:
    """An exception as a value: graphql-core raises every exception that it finds in a result."""

    problem: problems.Problem

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)


@strawberry.type(name="FieldProblem")
class FieldProblemType:
    field: str = strawberry.field(description="A path into the input or the spec: `nodes[2].config.prompt`.")
    code: str
    message: str
    severity: Severity
    node_id: strawberry.ID | None
    edge_id: strawberry.ID | None
    line: int | None
    column: int | None


@strawberry.interface(
    name="Problem",
    description="An RFC 9457 problem. A mutation never reports a domain "
    "failure as a top-level error: it returns it in "
    "`errors`, which is empty on success. `code` is stable and made for programs; `detail` is made for people.",
)
class ProblemType:
    code: ProblemCode
    type: str
    title: str
    detail: str
    status: int


@strawberry.type
class ValidationProblem(ProblemType):
    errors: list[FieldProblemType]

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, ProblemValue) and isinstance(value.problem, problems.Invalid)


@strawberry.type
class NotFoundProblem(ProblemType):
    resource_id: strawberry.ID

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, ProblemValue) and isinstance(value.problem, problems.NotFound)


@strawberry.type(
    description="Another client saved first. The problem carries the current draft, so that the caller can merge."
)
class ConflictProblem(ProblemType):
    current_revision: int | None

    @strawberry.field(
        graphql_type=Annotated["WorkflowDraft", strawberry.lazy("schema.workflows.draft")] | None,
        description="The current draft.",
    )
    @staticmethod
    def draft(root: Any) -> Any:
        return root.current

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, ProblemValue) and isinstance(value.problem, problems.Conflict)


@strawberry.type
class InvalidStateProblem(ProblemType):
    run_status: RunStatus | None

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, ProblemValue) and isinstance(value.problem, problems.InvalidState)


WITH_OWN_TYPE = (problems.Invalid, problems.NotFound, problems.Conflict, problems.InvalidState)


@strawberry.type(description="A problem without data of its own: `code` and `detail` describe it completely.")
class GeneralProblem(ProblemType):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, ProblemValue) and not isinstance(value.problem, WITH_OWN_TYPE)


PROBLEM_TYPES = [ValidationProblem, NotFoundProblem, ConflictProblem, InvalidStateProblem, GeneralProblem]
