"""The errors of a client. All of them are `TreadleError`s, and say what to do.

A mutation that is refused raises the `ProblemError` of its type in the schema: `ConflictProblem` is a
`ConflictProblemError`. An operation that is not executed raises an `OperationError` with its code.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from treadle.client.models import DraftData, FieldProblemData, RunErrorData


class TreadleError(Exception):
    """Base of all errors of a client."""


class ServerUnavailable(TreadleError):
    """No server responds, or it cannot serve requests now. Another attempt may succeed.

    Attributes:
        may_be_executed: Whether the server may have executed the operation before the connection was lost.
        retry_after_s: Seconds that the server asks to wait; None if it does not say it.
    """

    is_transient = True

    def __init__(self, message: str, *, may_be_executed: bool = True) -> None:
        super().__init__(message)
        self.may_be_executed = may_be_executed
        self.retry_after_s: float | None = None


class AddressError(TreadleError):
    """The address cannot be used, is not that of a Treadle server, or a proxy has changed the response."""


class OperationError(TreadleError):
    """The server refuses the operation, or it has failed.

    Attributes:
        code: `extensions.code` of the first error, such as FORBIDDEN; docs/api.md lists all.
        errors: All errors of the response, as they were sent.
        status: The HTTP status; None for an error in a stream.
        retry_after_s: Seconds after which the same operation may succeed; None if that is not known.
    """

    def __init__(self, errors: Sequence[Mapping[str, Any]], status: int | None = None) -> None:
        super().__init__("; ".join(str(error.get("message")) for error in errors))
        self.errors = [dict(error) for error in errors]
        extensions = self.errors[0].get("extensions") or {}
        self.code: str = extensions.get("code", "INTERNAL")
        self.retry_after_s: float | None = extensions.get("retryAfterS")
        self.status = status

    @property
    def is_transient(self) -> bool:
        """Whether the same operation may succeed later."""
        return self.code == "UNAVAILABLE" or self.retry_after_s is not None

    @property
    def may_be_executed(self) -> bool:
        """Whether the server may have executed the operation. A limit refuses it before that."""
        return self.code != "LIMIT"


class ProblemError(TreadleError):
    """A mutation was refused, and changed nothing.

    Attributes:
        code: The kind of the problem, for programs.
        type: A URN of the kind of problem.
        title: The kind of the problem, for people.
        detail: What happened and what to do, for people.
        status: The HTTP status that fits.
        problems: All problems of the payload, as they were sent. This error is the first of them.
    """

    typename: ClassVar[str] = "Problem"

    def __init__(self, problems: Sequence[Mapping[str, Any]]) -> None:
        first = problems[0]
        super().__init__(f"{first['title']}: {first['detail']}")
        self.code, self.type = str(first["code"]), str(first["type"])
        self.title, self.detail, self.status = str(first["title"]), str(first["detail"]), int(first["status"])
        self.problems = [dict(problem) for problem in problems]


class ValidationProblemError(ProblemError):
    """The input is wrong. `errors` names every wrong field."""

    typename = "ValidationProblem"

    @property
    def errors(self) -> "list[FieldProblemData]":
        from treadle.client.models import FieldProblemData

        return [FieldProblemData.model_validate(error) for error in self.problems[0]["errors"]]


class NotFoundProblemError(ProblemError):
    """No object that you may see has the id `resource_id`."""

    typename = "NotFoundProblem"

    @property
    def resource_id(self) -> str:
        return str(self.problems[0]["resourceId"])


class ConflictProblemError(ProblemError):
    """Another client saved first, or an idempotency key was used with other arguments."""

    typename = "ConflictProblem"

    @property
    def current_revision(self) -> int | None:
        """The present revision of the draft; None if the conflict is about something else."""
        revision: int | None = self.problems[0].get("currentRevision")
        return revision

    @property
    def draft(self) -> "DraftData | None":
        """The current draft, to merge with; None if the conflict is about something else."""
        from treadle.client.models import DraftData

        draft = self.problems[0].get("draft")
        return None if draft is None else DraftData.model_validate(draft)


class InvalidStateProblemError(ProblemError):
    """The present status does not allow the change. `available_actions` of the run says what is allowed."""

    typename = "InvalidStateProblem"

    @property
    def run_status(self) -> str | None:
        """The present status of the run; None if the problem is about something else."""
        status: str | None = self.problems[0].get("runStatus")
        return status


class GeneralProblemError(ProblemError):
    """A problem without data of its own: `code` and `detail` describe it."""

    typename = "GeneralProblem"


PROBLEM_ERRORS: dict[str, type[ProblemError]] = {
    kind.typename: kind
    for kind in (
        ValidationProblemError,
        NotFoundProblemError,
        ConflictProblemError,
        InvalidStateProblemError,
        GeneralProblemError,
    )
}
"""The error of each problem type of the schema."""


def problem_error(problems: Sequence[Mapping[str, Any]]) -> ProblemError:
    """Create the error of a payload with problems. A type that a newer server has is a plain ProblemError."""
    return PROBLEM_ERRORS.get(str(problems[0].get("__typename")), ProblemError)(problems)


class RunFailedError(TreadleError):
    """A run has ended as FAILED or CANCELLED.

    Attributes:
        run_id: The id of the run.
        status: Its status.
        error: Why it has failed; None for a run that was cancelled.
    """

    def __init__(self, run_id: str, status: str, error: "RunErrorData | None") -> None:
        reason = "" if error is None else f": {error.code} at {error.node_id or 'the run'}: {error.message}"
        super().__init__(f"{run_id} is {status}{reason}")
        self.run_id, self.status, self.error = run_id, status, error
