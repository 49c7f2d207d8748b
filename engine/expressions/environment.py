"""The minijinja environment that evaluates templates: with a fuel limit and read-only data.

Templates cannot reach Python objects. Fuel counts steps, not the cost of a step, so the callers
limit the cost: engine/expressions/evaluator.py limits the data that is read, and
engine/isolation/server.py the CPU time and the memory of its process. The module has no state.
"""

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from minijinja import Environment, TemplateError

from engine.errors import NotStorable
from engine.expressions.analysis import NODES, TemplateCode, analyze
from engine.expressions.filters import EXTRA_FILTERS, FilterError
from engine.expressions.lexer import as_expression, has_code, is_whole_expression, position
from engine.expressions.views import WorkLimitExceeded, charge, charge_all, to_json_text, to_plain, unwrap, view
from engine.types import JSON
from engine.values.storable import check_storable

FUEL = 100_000
"""Instructions of one evaluation: a loop of a few ten thousand iterations."""
MAX_TEXT = 4 * 1024 * 1024
"""Characters that one template may print."""
TEXT_COST = 40
"""The cost of starting the evaluation of a text, in the unit of views.charge."""
# fmt: off
FILTERS = frozenset({
    "abs", "bool", "capitalize", "chain", "count", "d", "datetime_difference", "datetime_format", "datetime_shift",
    "default", "dictsort", "first", "float", "fromjson", "groupby", "int", "items", "join", "last", "length", "lines",
    "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select",
    "selectattr", "sort", "split", "string", "sum", "title", "tojson", "trim", "unique", "upper", "urlencode", "zip",
})
# fmt: on
# Filters whose result may be much larger than their input, whatever the fuel, and filters for HTML.
_REMOVED_FILTERS = ("attr", "batch", "center", "e", "escape", "format", "indent", "pprint", "safe", "slice")
_REMOVED_FUNCTIONS = ("debug", "namespace")
_UNAVAILABLE_STATEMENTS = frozenset(["include", "import", "from", "extends", "block", "macro", "call"])

Problem = tuple[str, int | None, int | None]
"""A message with line and column, both from 1."""


class ExpressionError(Exception):
    """A template or expression cannot be parsed, or its evaluation failed."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column

    def __str__(self) -> str:
        where = f" (line {self.line}, column {self.column})" if self.line and self.column else ""
        return self.message + where


class _TextLimitExceeded(Exception):
    """One template printed more than MAX_TEXT characters."""


class _Output(threading.local):
    """The number of characters that the current template of this thread has printed."""

    size = 0


_output = _Output()


def _print(value: Any) -> str:
    """Format a value inside a text: a text as itself, null as nothing, all else as JSON."""
    text = "" if value is None else str(value) if isinstance(value, str) else to_json_text(value)
    _output.size += len(text)
    if _output.size > MAX_TEXT:
        raise _TextLimitExceeded(f"the template prints more than {MAX_TEXT // 1024 // 1024} MiB of text")
    return text


def _environment() -> Environment:
    environment = Environment(undefined_behavior="strict", fuel=FUEL, finalizer=_print, keep_trailing_newline=True)
    for name in _REMOVED_FILTERS:
        environment.remove_filter(name)
    for name in _REMOVED_FUNCTIONS:
        environment.remove_global(name)
    environment.add_filter("tojson", to_json_text)
    for name, function in EXTRA_FILTERS.items():
        environment.add_filter(name, function)
    return environment


_ENVIRONMENT = _environment()


def parse(text: str, *, expression: bool) -> TemplateCode:
    """Parse a text.

    Args:
        text: A template, or an expression.
        expression: Whether the whole text is an expression.

    Raises:
        ExpressionError: The syntax is wrong.
    """
    try:
        return analyze(text, expression=expression)
    except TemplateError as error:
        source = as_expression(text) if expression and error.range else text
        raise _for_braces(_expression_error(error, source), text) from error


def _for_braces(error: ExpressionError, text: str) -> ExpressionError:
    """Correct the message for a text with `}}`, which the parser has read as a parenthesis."""
    line = text.split("\n")[error.line - 1] if error.line else ""
    if error.message != "unexpected `)`" or line[(error.column or 1) - 1 : error.column] == ")":
        return error
    return ExpressionError("unexpected end of expression", error.line, error.column)


def render(value: JSON, scope: Mapping[str, Any]) -> JSON:
    """Render every template in a JSON value in this process. See evaluator.render."""
    if isinstance(value, str):
        if not has_code(value):
            return value
        charge(TEXT_COST)
        return _render_text(value, scope)
    if isinstance(value, dict):
        return {key: render(inner, scope) for key, inner in value.items()}
    if isinstance(value, list):
        return [render(inner, scope) for inner in value]
    return value


def evaluate(expression: str, scope: Mapping[str, Any]) -> JSON:
    """Evaluate an expression in this process. See evaluator.evaluate."""
    names = _visible(parse(expression, expression=True), scope)
    source = as_expression(expression)
    try:
        value = _ENVIRONMENT.eval_expr(source, **names)
        if value is None:
            # The value is null or undefined. Only printing raises an error for undefined, with the
            # name.
            _output.size = 0
            _ENVIRONMENT.render_str("{{" + source + "\n}}", **names)
        result = to_plain(value)
        if result is not unwrap(value) or not isinstance(result, dict | list):
            # Run data was checked when it entered the run and may be large, so it is not checked
            # again.
            charge_all(result)
            check_storable(result)
    except WorkLimitExceeded:
        raise
    except Exception as error:
        raise _expression_error(error, source) from error
    return result


def unavailable_statements(code: TemplateCode) -> list[Problem]:
    """Return a problem for each statement that templates may not use."""
    return [
        (f"`{{% {use.name} %}}` is not available", use.line, use.column)
        for use in code.statements
        if use.name in _UNAVAILABLE_STATEMENTS
    ]


def _render_text(text: str, scope: Mapping[str, Any]) -> JSON:
    if is_whole_expression(text):
        return evaluate(text, scope)
    code = parse(text, expression=False)
    if problems := unavailable_statements(code):
        raise ExpressionError(*problems[0])
    _output.size = 0
    try:
        return _ENVIRONMENT.render_str(text, **_visible(code, scope))
    except WorkLimitExceeded:
        raise
    except Exception as error:
        raise _expression_error(error, text) from error


def _visible(code: TemplateCode, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Read the values that a text uses from a scope that may load them lazily."""
    names = {NODES if use.is_node else use.name for use in code.uses}
    return {name: view(scope[name]) for name in names if name in scope and name != "self"}


def _filter_position(name: str, source: str) -> tuple[int | None, int | None]:
    """Return line and column of a filter, or None if it occurs more than once."""
    offsets = [match.end() - len(name) for match in re.finditer(rf"\|\s*{name}\b", source)]
    return position(source, offsets[0]) if len(offsets) == 1 else (None, None)


def _expression_error(error: Exception, source: str) -> ExpressionError:
    """Convert an exception of an evaluation to an ExpressionError with its place.

    Args:
        error: The exception of minijinja, of a view or of a filter.
        source: The evaluated source: the text itself, or a source with the same positions.
    """
    if isinstance(error, AttributeError):
        return ExpressionError(f"there is no method `{error.name}` here")
    if isinstance(error, FilterError):
        return ExpressionError(str(error), *_filter_position(error.name, source))
    if not isinstance(error, TemplateError):
        return ExpressionError(str(error) or type(error).__name__)
    message = (error.detail or error.message).replace("variable block", "expression")
    if message.startswith("panic"):
        return ExpressionError("the template takes more memory than allowed")
    if error.kind == "UndefinedError":
        message += "; if it may be missing, write `… | default(value)`"
    elif error.kind == "OutOfFuel":
        message = f"the template takes more than {FUEL:,} steps"
    return ExpressionError(message, *_error_position(error, source))


def _error_position(error: TemplateError, source: str) -> tuple[int | None, int | None]:
    """Return line and column of an error of minijinja, None where it is not known."""
    if error.range is None:
        # The error of a comparison has no place, but the name of the undefined variable.
        names = (error.detail or "").split("`")[1:2]
        offset = source.find(names[0]) if names else -1
        return position(source, offset) if offset >= 0 else (error.line, None)
    evaluated = error.template_source or source
    # minijinja counts bytes, in a source that `evaluate` may have put into braces.
    offset = len(evaluated.encode()[: error.range[0]].decode(errors="ignore"))
    offset -= 2 if evaluated == "{{" + source + "\n}}" else 0
    return position(source, min(max(offset, 0), len(source)))


def render_isolated(value: JSON, scope: dict[str, JSON]) -> dict[str, JSON]:
    """Run `render` in the isolation process.

    Returns:
        `{"value": …}`, or `{"error": [message, line, column]}`.
    """
    return _isolated(render, value, scope)


def evaluate_isolated(expression: str, scope: dict[str, JSON]) -> dict[str, JSON]:
    """Run `evaluate` in the isolation process. The result is as that of `render_isolated`."""
    return _isolated(evaluate, expression, scope)


def _isolated(task: Callable[[Any, Mapping[str, Any]], JSON], source: JSON, scope: dict[str, JSON]) -> dict[str, JSON]:
    try:
        value = task(source, scope)
        check_storable(value)  # Checked here, so that a value that is too large is not sent.
    except ExpressionError as error:
        return {"error": [error.message, error.line, error.column]}
    except NotStorable as error:
        return {"error": [f"the result of the templates cannot be stored: {error}", None, None]}
    return {"value": value}
