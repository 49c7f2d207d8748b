"""Problems as clients see them. What stands behind each is an exception of persistence/problems.py."""

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
class Told:
    """A problem as a value: graphql-core raises every exception that it meets in an answer."""

    problem: problems.Problem

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)


@strawberry.type
class FieldProblem:
    field: str = strawberry.field(description="A path into the input or the spec: `nodes[2].config.prompt`.")
    code: str
    message: str
    severity: Severity
    node_id: strawberry.ID | None
    edge_id: strawberry.ID | None
    line: int | None
    column: int | None


@strawberry.interface(
    description="An RFC 9457 problem. Mutations never answer a domain failure with a top-level error: they return "
    "`errors`, empty on success. `code` is stable and made for programs; `detail` is made for people."
)
class Problem:
    code: ProblemCode
    type: str
    title: str
    detail: str
    status: int


@strawberry.type
class ValidationProblem(Problem):
    errors: list[FieldProblem]

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Told) and isinstance(value.problem, problems.Invalid)


@strawberry.type
class NotFoundProblem(Problem):
    resource_id: strawberry.ID

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Told) and isinstance(value.problem, problems.NotFound)


@strawberry.type(description="Somebody saved first. The caller gets what stands now, to merge with.")
class ConflictProblem(Problem):
    current_revision: int | None

    @strawberry.field(
        graphql_type=Annotated["WorkflowDraft", strawberry.lazy("schema.workflows.draft")] | None,
        description="What stands now.",
    )
    @staticmethod
    def draft(root: Any) -> Any:
        return root.current

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Told) and isinstance(value.problem, problems.Conflict)


@strawberry.type
class InvalidStateProblem(Problem):
    run_status: RunStatus | None

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Told) and isinstance(value.problem, problems.InvalidState)


SPECIAL = (problems.Invalid, problems.NotFound, problems.Conflict, problems.InvalidState)


@strawberry.type(description="A problem that `code` and `detail` say all about.")
class GeneralProblem(Problem):
    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Told) and not isinstance(value.problem, SPECIAL)


PROBLEM_TYPES = [ValidationProblem, NotFoundProblem, ConflictProblem, InvalidStateProblem, GeneralProblem]
