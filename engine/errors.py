"""Errors that every package of the engine may raise."""

from engine.types import JSON


class NodeFailure(Exception):
    """The failure of a node, with a code.

    Args:
        code: Stable, for programs; docs/errors.md lists the codes of the built-in node types.
        message: One sentence for people.
        retryable: Whether another attempt may succeed.
        details: More data about the failure, as JSON.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False, details: JSON = None) -> None:
        super().__init__(message)
        self.code, self.message, self.retryable, self.details = code, message, retryable, details


NODE_CODES = frozenset({
    "BUDGET", "CALLBACK", "CODE", "CONFIG", "HTTP_BLOCKED", "HTTP_CONNECT", "HTTP_RESPONSE", "HTTP_STATUS", "HTTP_TIMEOUT",
    "MEMORY_LIMIT", "MODEL_AUTH", "MODEL_CONTEXT", "MODEL_FILTERED", "MODEL_OUTPUT", "MODEL_RATE_LIMIT",
    "MODEL_REQUEST", "MODEL_STREAM", "MODEL_TIMEOUT", "MODEL_UNAVAILABLE", "MODEL_UNKNOWN", "NODE", "OUTPUT",
    "RECURSION", "SANDBOX", "SECRET", "SUBWORKFLOW", "TEMPLATE", "TIMEOUT", "TOOL_ARGUMENTS", "TOOL_FAILED",
    "TOOL_FORBIDDEN", "TOOL_UNKNOWN",
})  # fmt: skip
"""The codes with which a node of a built-in type fails, besides those of `fail` nodes."""


RUN_CODES = frozenset({
    "COMPILE", "CRASH_LOOP", "DEADLINE", "EXPRESSION", "INTERNAL", "LOOP_LIMIT", "STORAGE", "STORAGE_LIMIT", "TEMPLATE",
    "TIMEOUT",
})  # fmt: skip
"""The codes with which a run ends that is not ended by an error of a node."""


class NodeInterrupted(Exception):
    """The node has stopped because its run pauses or is released. What it has finished is stored.

    It is no failure: the next claim of the run continues the visit.
    """


DEFECTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    FileNotFoundError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    PermissionError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""Exceptions that another attempt raises again: the code or its input is wrong. The list follows
`default_retry_on` of LangGraph, but a RuntimeError is repeated.
"""
RETRY_AFTER = "retryAfterS"
"""The member of `details` with the seconds that a service asks its caller to wait."""
TRANSIENT_STATUSES = frozenset([408, 425, 429, 500, 502, 503, 504])
"""HTTP statuses after which another attempt may succeed."""


def may_be_transient(fault: Exception) -> bool:
    """Return whether another attempt may avoid an exception that has no code.

    The exception of an HTTP client library is judged by the status of its response.
    """
    status = getattr(getattr(fault, "response", None), "status_code", None)
    if isinstance(status, int):
        return status in TRANSIENT_STATUSES
    return not isinstance(fault, DEFECTS)


MAX_PATH_LENGTH = 200
"""Characters of a path that an error message contains."""


class NotStorable(NodeFailure):
    """A value cannot be stored as JSON.

    Args:
        path: Leads to the value, such as `.rows[3].price`; empty for the value itself.
        reason: Completes the sentence "the value at PATH …".
    """

    def __init__(self, path: str, reason: str) -> None:
        short_path = path if len(path) <= MAX_PATH_LENGTH else f"{path[:MAX_PATH_LENGTH]}…"
        super().__init__("OUTPUT", f"the value at {short_path} {reason}" if path else f"the value {reason}")
        self.path = path
