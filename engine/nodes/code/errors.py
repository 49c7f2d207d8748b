"""What went wrong in the sandbox, in the author's terms: which of the limits, or what their code raised and on which line."""

import ast
import builtins
from dataclasses import dataclass

from pydantic_monty import (
    MontyConversionError,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from engine.errors import NodeFailure
from engine.nodes.code.source import lines_where
from engine.types import JSON

MAX_MESSAGE = 2000
# Two faults that the sandbox tells in words of its own and without their place.
_ONE_TEXT = "exceptions can only be called with zero or one string argument"
_NOTHING_TO_RAISE = "No active exception to reraise"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    timeout_s: float
    memory_mb: int


def failure(error: MontyError, code: str, limits: SandboxLimits) -> NodeFailure:
    if isinstance(error, MontyCrashedError):
        if error.timed_out:
            return out_of_time(limits)
        return NodeFailure("SANDBOX", f"the sandbox process died: {error}", retryable=True)
    if isinstance(error, MontyConversionError):
        return NodeFailure("OUTPUT", f"a value cannot cross into or out of the sandbox: {error}")
    if not isinstance(error, MontyRuntimeError | MontySyntaxError):
        return NodeFailure("SANDBOX", str(error), retryable=True)
    raised, text = error.exception(), str(error)
    if isinstance(raised, TimeoutError) and "limit exceeded" in text:
        return out_of_time(limits)
    if isinstance(raised, MemoryError) and "memory limit" in text:
        # Told with a place, or without one where the allocator has ended the process.
        message = f"the code exceeded its memory limit of {limits.memory_mb} MiB"
        return NodeFailure("MEMORY_LIMIT", message, details=_place(error, code))
    return _raised(error, code, text)


def out_of_time(limits: SandboxLimits) -> NodeFailure:
    return NodeFailure("TIMEOUT", f"the code did not finish within {limits.timeout_s:g} s", retryable=True)


def _raised(error: MontyRuntimeError | MontySyntaxError, code: str, text: str) -> NodeFailure:
    place, lines = _place(error, code), None
    if _ONE_TEXT in text:
        text = "an exception takes one text at most here: write `ValueError(str(…))`"
        lines = lines_where(code, _takes_more)
    elif _NOTHING_TO_RAISE in text:
        lines = lines_where(code, _raises_nothing)
    if lines is not None:
        place = {"line": lines[0]} if len(lines) == 1 else None
        where = f"line {' or '.join(map(str, lines[:5]))}: " if lines else ""
    elif place is not None:
        where = f"line {place['line']}: "
    else:
        where = "the call of `process`: " if error.traceback() else ""
    text = text.replace("The monty syntax parser", "the sandbox's Python")
    return NodeFailure("CODE", f"{where}{text}"[:MAX_MESSAGE], details=place)


def _takes_more(node: ast.AST) -> bool:
    """Whether this makes an exception of something else than one text."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return False
    kind = getattr(builtins, node.func.id, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return False
    given = node.args[0] if len(node.args) == 1 and not node.keywords else None
    is_text = isinstance(given, ast.JoinedStr | ast.Call) or isinstance(getattr(given, "value", None), str)
    return bool(node.args or node.keywords) and not is_text


def _raises_nothing(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and node.exc is None


def _place(error: MontyRuntimeError | MontySyntaxError, code: str) -> dict[str, JSON] | None:
    """The innermost place in the author's code."""
    own = [frame for frame in error.traceback() if frame.line <= code.count("\n") + 1]
    return {"line": own[-1].line, "column": own[-1].column, "function": own[-1].function_name} if own else None
