"""What may go wrong in a session with an MCP server, in words of ours: whatever the library raises becomes one of these.

The library is imported when it is first needed, and never by this file's own import.
"""

from collections.abc import Iterator

from pydantic import ValidationError

NO_METHOD = -32601


class SessionLost(Exception):
    """The server is gone. `was_sent` says whether it may have seen the call."""

    def __init__(self, reason: str, *, was_sent: bool) -> None:
        super().__init__(reason)
        self.reason, self.was_sent = reason, was_sent


class NotListed(Exception):
    """The server is there and does not list its tools."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it does not list its tools: {reason}")


def why_lost(fault: Exception) -> tuple[str, bool] | None:
    """Why the server is gone, and whether it may have seen what it was asked. None: the fault is another one."""
    import anyio
    from mcp import McpError
    from mcp.types import CONNECTION_CLOSED

    if isinstance(fault, anyio.ClosedResourceError | anyio.BrokenResourceError):
        return "it had ended", False
    if isinstance(fault, McpError) and fault.error.code == CONNECTION_CLOSED:
        return "it ended", True
    if isinstance(fault, McpError) and fault.error.message == "Session terminated":
        return "it knows nothing of the session", False
    return None


def said(fault: BaseException) -> str:
    """What a fault says, in one line; of a group what each one in it says."""
    return "; ".join(dict.fromkeys(_said(one) for one in _leaves(fault)))


def _leaves(fault: BaseException) -> Iterator[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        for inner in fault.exceptions:
            yield from _leaves(inner)
    else:
        yield fault


def _said(fault: BaseException) -> str:
    if isinstance(fault, ValidationError):
        return f"it is no message of the protocol ({fault.errors(include_url=False)[0]['msg']})"
    if isinstance(status := getattr(getattr(fault, "response", None), "status_code", None), int):
        return f"it answered {status}"
    return str(fault) or type(fault).__name__
