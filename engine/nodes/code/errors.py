"""Maps errors of the sandbox to NodeFailures: the exceeded limit, or the exception and its line."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_monty import (
    MontyConversionError,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from engine.errors import NodeFailure
from engine.nodes.code.corrections import corrected
from engine.nodes.code.source import has_other_arguments, lines_where
from engine.types import JSON

MAX_MESSAGE = 2000
# Two messages of the sandbox that come without a position.
_ONE_ARGUMENT = "exceptions can only be called with zero or one string argument"
_NOTHING_TO_RAISE = "No active exception to reraise"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The limits of one call: seconds, and MiB of memory.

    `is_of_host`: the time limit is the maximum of the host, and the node has a higher one.
    """

    timeout_s: float
    memory_mb: int
    is_of_host: bool = False


def failure(
    error: MontyError, code: str, limits: SandboxLimits, tool_failures: Sequence[NodeFailure] = ()
) -> NodeFailure:
    """Return the failure of the node for an error of the sandbox.

    Args:
        error: The error.
        code: The author's source.
        limits: The limits of the call.
        tool_failures: The failures of tools that the code has called. If the code did not catch a
            retryable one, its failure is retryable.
    """
    if isinstance(error, MontyCrashedError):
        if error.timed_out:
            return timeout_failure(limits)
        return NodeFailure("SANDBOX", "the sandbox process died: try again with `retry`", retryable=True)
    if isinstance(error, MontyConversionError):
        message = "a value cannot be passed into or out of the sandbox: return texts, numbers, lists and dicts"
        return NodeFailure("OUTPUT", message)
    if not isinstance(error, MontyRuntimeError | MontySyntaxError):
        return NodeFailure("SANDBOX", "the sandbox failed: try again with `retry`", retryable=True)
    raised, text = error.exception(), str(error)
    if isinstance(raised, TimeoutError) and "limit exceeded" in text:
        return timeout_failure(limits)
    if isinstance(raised, MemoryError) and "memory limit" in text:
        # There is no position if the allocator has ended the process.
        message = f"the code exceeded its memory limit of {limits.memory_mb} MiB"
        return NodeFailure("MEMORY_LIMIT", message, details=_position(error, code))
    is_retryable = any(failed.retryable and failed.message in text for failed in tool_failures)
    return _raised(error, code, text, is_retryable=is_retryable)


def timeout_failure(limits: SandboxLimits) -> NodeFailure:
    """Return the failure for code that exceeded its time limit."""
    of_host = ", the maximum of this host (TREADLE_SANDBOX_MAX_TIMEOUT_S)" if limits.is_of_host else ""
    return NodeFailure("TIMEOUT", f"the code did not finish within {limits.timeout_s:g} s{of_host}", retryable=True)


def _raised(error: MontyRuntimeError | MontySyntaxError, code: str, text: str, *, is_retryable: bool) -> NodeFailure:
    position, lines = _position(error, code), None
    if _ONE_ARGUMENT in text:
        text = "an exception takes at most one string here: write `ValueError(str(…))`"
        lines = lines_where(code, has_other_arguments)
    elif _NOTHING_TO_RAISE in text:
        lines = lines_where(code, _is_bare_raise)
    if lines is not None:
        position = {"line": lines[0]} if len(lines) == 1 else None
        where = f"line {' or '.join(map(str, lines[:5]))}: " if lines else ""
    elif position is not None:
        where = f"line {position['line']}: "
    else:
        where = "the call of `process`: " if error.traceback() else ""
    text = text.replace("The monty syntax parser", "the sandbox's Python")
    return NodeFailure("CODE", f"{where}{text}"[:MAX_MESSAGE], retryable=is_retryable, details=position)


def _is_bare_raise(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and node.exc is None


def _position(error: MontyRuntimeError | MontySyntaxError, code: str) -> dict[str, JSON] | None:
    """Return the innermost position in the author's code, if the traceback has one."""
    frames = error.traceback()
    # The corrections are a source of their own, and the call of `process` follows the author's code.
    frames = [one for one in frames if one.filename == frames[0].filename and one.line <= code.count("\n") + 1]
    if not frames:
        return None
    line = frames[-1].line
    column = corrected(code).column(code, line, frames[-1].column)
    return {"line": line, "column": column, "function": frames[-1].function_name}
