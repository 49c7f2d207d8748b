"""Exceptions of the domain, with the members of an RFC 9457 problem.

Raising one rolls the transaction back.

`code` is stable and made for programs, `detail` is made for people. The schema reads them by
attribute.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from engine.problems import FieldProblem
from engine.states import RunStatus, Severity


class ProblemCode(StrEnum):
    VALIDATION = "VALIDATION"
    COMPILE = "COMPILE"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    INVALID_STATE = "INVALID_STATE"
    RUN = "RUN"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """The request has no token, or one that is not accepted."""
    FORBIDDEN = "FORBIDDEN"
    LIMIT = "LIMIT"
    UNAVAILABLE = "UNAVAILABLE"
    HISTORY_EXPIRED = "HISTORY_EXPIRED"
    """Retention has deleted the requested history. The run itself still exists."""
    INTERNAL = "INTERNAL"
    """A defect of the server. The log has its cause; the client does not see it."""


class Problem(Exception):
    """Base of every failure of the domain."""

    code: ClassVar[ProblemCode]
    title: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def type(self) -> str:
        """The URN of the problem type, as RFC 9457 has it."""
        return f"urn:treadle:problem:{self.code.lower().replace('_', '-')}"


class NotFound(Problem):
    """No resource that the caller may see has this id.

    Resources of other projects look as if they did not exist.
    """

    code, title, status = ProblemCode.NOT_FOUND, "Not found", 404

    def __init__(self, resource_id: str, hint: str = "") -> None:
        """`hint` is a sentence on why it may be missing, or nothing."""
        super().__init__(f"Nothing with the id {resource_id!r} was found.{hint and ' '}{hint}")
        self.resource_id = resource_id


class Conflict(Problem):
    """Another change was saved first.

    `current` is the resource as it is now, for the client to merge with.
    """

    code, title, status = ProblemCode.CONFLICT, "Conflict", 409

    def __init__(self, detail: str, current_revision: int | None = None, current: object = None) -> None:
        super().__init__(detail)
        self.current_revision, self.current = current_revision, current


class InvalidState(Problem):
    """The run's or workflow's present state does not allow the change."""

    code, title, status = ProblemCode.INVALID_STATE, "Not possible in this state", 409

    def __init__(self, detail: str, run_status: RunStatus | None = None) -> None:
        super().__init__(detail)
        self.run_status = run_status


class Gone(InvalidState):
    """What the caller refers to has existed, and is over."""


class Invalid(Problem):
    """The input is invalid. `errors` names every invalid field."""

    code, title, status = ProblemCode.VALIDATION, "Invalid input", 422

    def __init__(self, errors: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors[:3]))
        self.errors = list(errors)


class ExpiredHistory(Problem):
    """Retention has deleted the history of the run: its events, checkpoints and node states."""

    code, title, status = ProblemCode.HISTORY_EXPIRED, "History expired", 410

    def __init__(self, run_id: str, at: datetime) -> None:
        super().__init__(
            f"The events, checkpoints and node states of {run_id} were deleted {at:%Y-%m-%d %H:%M} UTC by retention "
            "(TREADLE_RETENTION_HISTORY_DAYS). Its status, inputs, output and error are still there."
        )
        self.at = at


class Forbidden(Problem):
    """The caller's role or scopes do not allow the operation."""

    code, title, status = ProblemCode.FORBIDDEN, "Forbidden", 403


class Unauthenticated(Problem):
    """The caller is unknown: the request has no token, or one that is not accepted.

    `has_token` selects the form of the WWW-Authenticate header (RFC 6750, section 3.1).
    """

    code, title, status = ProblemCode.UNAUTHENTICATED, "Not signed in", 401

    def __init__(self, detail: str, *, has_token: bool = True) -> None:
        super().__init__(detail)
        self.has_token = has_token


class Limit(Problem):
    """The request is larger than the server accepts.

    `retry_after_s` is the number of seconds after which the same request succeeds, if that is known.
    """

    code, title, status = ProblemCode.LIMIT, "Limit exceeded", 413
    retry_after_s: int | None = None


class Busy(Limit):
    """The maximum number of active runs is reached.

    The same request succeeds after one of them has ended.
    """

    title, status = "Too many runs", 429


class TooManyQueuedRuns(Busy):
    """The project has the maximum number of queued runs.

    The same request succeeds after some of them have started.
    """

    title = "Too many queued runs"


class ProjectStorageFull(Busy):
    """The runs of the project store as many bytes as they may.

    The same request succeeds after some of them are deleted, or have expired.
    """

    title = "The project has no space left"


class TooManyNodeTests(Limit):
    """This process tests the maximum number of nodes already.

    The same request succeeds within a minute.
    """

    title, status = "Too many node tests", 429


class TooManyEvaluations(Limit):
    """The caller's maximum number of long evaluations and validations waits in this process already.

    The same request succeeds within seconds.
    """

    title, status = "Too many evaluations", 429


class Unavailable(Problem):
    """A store or service that the request needs cannot be reached.

    The same request may succeed later.
    """

    code, title, status = ProblemCode.UNAVAILABLE, "Not available now", 503


def invalid(field: str, code: str, message: str) -> Invalid:
    """Make an `Invalid` for one field."""
    return Invalid([FieldProblem(field, code, message, Severity.ERROR)])


EXPIRED_CHECKPOINT = (
    "Retention deletes the checkpoints of a run some time after its end; see historyExpiredAt of the run."
)
"""The hint for a checkpoint that is not found."""
