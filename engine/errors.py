"""Errors that every package of the engine may raise."""

from engine.types import JSON


class NodeFailure(Exception):
    """A node failed in a way it can name. `code` is stable; `retryable` says whether another attempt may help."""

    def __init__(self, code: str, message: str, *, retryable: bool = False, details: JSON = None) -> None:
        super().__init__(message)
        self.code, self.message, self.retryable, self.details = code, message, retryable, details


MAX_SHOWN = 200


class NotStorable(NodeFailure):
    """`path` leads to the value, like `.rows[3].price`; it is empty for the value itself."""

    def __init__(self, path: str, what: str) -> None:
        shown = path if len(path) <= MAX_SHOWN else f"{path[:MAX_SHOWN]}…"
        super().__init__("OUTPUT", f"the value at {shown} {what}" if path else f"the value {what}")
        self.path = path
