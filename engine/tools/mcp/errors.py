"""The errors of a session with an MCP server, and the mapping of the library's exceptions to them.

The library is imported when a function is called, not with this module.
"""

from collections.abc import Iterator

from pydantic import ValidationError

from engine.connection_faults import connection_fault
from engine.invalid_values import sentences

_PROTOCOL = "it does not follow the protocol"
METHOD_NOT_FOUND = -32601
"""The code of JSON-RPC 2.0 for an unknown method."""
PERMANENT_CODES = (-32700, -32600, METHOD_NOT_FOUND, -32602)
"""The codes of JSON-RPC 2.0 for a request that is wrong. The same request fails again."""


class ExplainedFault(Exception):
    """An exception of a connection whose message is our own."""


class SessionLost(Exception):
    """The session has ended. `was_sent` is True if the server may have received the call."""

    def __init__(self, reason: str, *, was_sent: bool) -> None:
        super().__init__(reason)
        self.reason, self.was_sent = reason, was_sent


class NotListed(Exception):
    """The session is alive, but the server does not list its tools."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it does not list its tools: {reason}")


def lost_reason(fault: Exception) -> tuple[str, bool] | None:
    """Return why the session has ended and whether the server may have received the request.

    None means that the exception has another cause.
    """
    import anyio
    from mcp import McpError
    from mcp.types import CONNECTION_CLOSED

    if isinstance(fault, anyio.ClosedResourceError | anyio.BrokenResourceError):
        return "it had ended", False
    if isinstance(fault, McpError) and fault.error.code == CONNECTION_CLOSED:
        return "it ended", True
    if isinstance(fault, McpError) and fault.error.message == "Session terminated":
        return "it does not know the session", False
    return None


def message_of(fault: BaseException) -> str:
    """Return the message of an exception on one line; of a group, the messages of its members."""
    return "; ".join(dict.fromkeys(_message(leaf) for leaf in _leaves(fault)))


def _leaves(fault: BaseException) -> Iterator[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        for inner in fault.exceptions:
            yield from _leaves(inner)
    else:
        yield fault


def _message(fault: BaseException) -> str:
    if isinstance(fault, ValidationError):
        return f"it is not a message of the protocol ({sentences(fault)})"
    if isinstance(status := getattr(getattr(fault, "response", None), "status_code", None), int):
        return f"it answered {status}"
    if isinstance(fault, ExplainedFault):
        return str(fault)
    from mcp import McpError

    if isinstance(fault, McpError):
        return f"it says: {fault.error.message}"  # the words of the server
    return connection_fault(fault) or _known_fault(str(fault)) or _PROTOCOL


def _known_fault(text: str) -> str | None:
    if text.startswith("Unsupported protocol version"):
        return "it speaks a version of the protocol that is not supported"
    if text.startswith("Unexpected content type"):
        return f"its response has the content type {text.partition(':')[2].strip()[:80]!r}"
    return None


def result_fault(fault: RuntimeError) -> str:
    """Return why the library refuses the result of a tool that has an output schema."""
    if "did not return structured content" in str(fault):
        return "its result has no structured content, although the tool has an output schema"
    if str(fault).startswith("Invalid structured content"):
        return "its result does not match the output schema of the tool"
    return "the output schema of the tool cannot be used"
