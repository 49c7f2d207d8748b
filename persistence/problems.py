"""What can go wrong in the domain, as exceptions that read like RFC 9457 problems. Raising one rolls back.

`code` is stable and made for programs; `detail` is made for people. The schema shows them by attribute.
"""

from collections.abc import Sequence
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
    FORBIDDEN = "FORBIDDEN"
    LIMIT = "LIMIT"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"
    """A fault of ours: logged with its cause, told without it."""


class Problem(Exception):
    """Base of every domain failure."""

    code: ClassVar[ProblemCode]
    title: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def type(self) -> str:
        return f"urn:treadle:problem:{self.code.lower().replace('_', '-')}"


class NotFound(Problem):
    """Nothing the caller may see has this id: what they may not see does not exist for them."""

    code, title, status = ProblemCode.NOT_FOUND, "Not found", 404

    def __init__(self, resource_id: str) -> None:
        super().__init__(f"Nothing with the id {resource_id!r} was found.")
        self.resource_id = resource_id


class Conflict(Problem):
    """Somebody saved first; carries what stands now, to merge with."""

    code, title, status = ProblemCode.CONFLICT, "Conflict", 409

    def __init__(self, detail: str, current_revision: int | None = None, current: object = None) -> None:
        super().__init__(detail)
        self.current_revision, self.current = current_revision, current


class InvalidState(Problem):
    code, title, status = ProblemCode.INVALID_STATE, "Not possible in this state", 409

    def __init__(self, detail: str, run_status: RunStatus | None = None) -> None:
        super().__init__(detail)
        self.run_status = run_status


class Invalid(Problem):
    """The input is wrong; `errors` says where, all at once."""

    code, title, status = ProblemCode.VALIDATION, "Invalid input", 422

    def __init__(self, errors: Sequence[FieldProblem]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors[:3]))
        self.errors = list(errors)


class Forbidden(Problem):
    code, title, status = ProblemCode.FORBIDDEN, "Forbidden", 403


class Limit(Problem):
    code, title, status = ProblemCode.LIMIT, "Limit exceeded", 413


class Busy(Limit):
    """As many runs are active as may be; later there is room again."""

    title, status = "Too many runs", 429


class TooManyTrials(Limit):
    """This process tries as many nodes as it may; in a minute at the latest there is room again."""

    title, status = "Too many nodes are tried", 429


class Unavailable(Problem):
    code, title, status = ProblemCode.UNAVAILABLE, "Not available now", 503


def invalid(field: str, code: str, message: str) -> Invalid:
    """One wrong field."""
    return Invalid([FieldProblem(field, code, message, Severity.ERROR)])
