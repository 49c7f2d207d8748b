"""The evaluation itself: minijinja with a fuel limit, read-only data and no Python behind it. Keeps nothing.

Fuel counts steps and not what a step costs, so who calls this bounds the rest: engine/expressions/evaluator.py by
what is looked at,
engine/isolation/server.py by the computing time and the memory of a process.
"""

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from minijinja import Environment, TemplateError

from engine.errors import NotStorable
from engine.expressions.analysis import NODES, TemplateCode, uses
from engine.expressions.filters import ADDED, FilterFault
from engine.expressions.lexer import as_expression, has_code, is_whole_expression, position
from engine.expressions.views import Heavy, as_json, take, take_all, to_json, unwrap, view
from engine.types import JSON
from engine.values.storable import check_storable

FUEL = 100_000
"""Instructions of one evaluation; a loop of a few ten thousand turns."""
MAX_TEXT = 4 * 1024 * 1024
"""Characters that one template may print."""
EACH_TEXT = 40
"""What it costs to begin with a text, in values looked at."""
# fmt: off
FILTERS = frozenset({
    "abs", "bool", "capitalize", "chain", "count", "d", "datetime_difference", "datetime_format", "datetime_shift",
    "default", "dictsort", "first", "float", "fromjson", "groupby", "int", "items", "join", "last", "length", "lines",
    "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select",
    "selectattr", "sort", "split", "string", "sum", "title", "tojson", "trim", "unique", "upper", "urlencode", "zip",
})
# fmt: on
# Those that make much out of little, whatever the fuel, and those that are about HTML.
_REMOVED_FILTERS = ("attr", "batch", "center", "e", "escape", "format", "indent", "pprint", "safe", "slice")
_REMOVED_FUNCTIONS = ("debug", "namespace")
_REFUSED_STATEMENTS = frozenset(["include", "import", "from", "extends", "block", "macro", "call"])

Wrong = tuple[str, int | None, int | None]
"""A message with line and column, both from 1."""


class ExpressionError(Exception):
    """A template that cannot be parsed, or whose evaluation failed."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column

    def __str__(self) -> str:
        where = f" (line {self.line}, column {self.column})" if self.line and self.column else ""
        return self.message + where


class _TooMuchText(Exception):
    """One template printed more than MAX_TEXT."""


class _Printed(threading.local):
    """How much the template that this thread renders has printed."""

    count = 0


_printed = _Printed()


def _print(value: Any) -> str:
    """How a value looks inside a text: text as it is, null as nothing, all else as JSON."""
    text = "" if value is None else str(value) if isinstance(value, str) else as_json(value)
    _printed.count += len(text)
    if _printed.count > MAX_TEXT:
        raise _TooMuchText(f"the template prints more than {MAX_TEXT // 1024 // 1024} MiB of text")
    return text


def _environment() -> Environment:
    environment = Environment(undefined_behavior="strict", fuel=FUEL, finalizer=_print, keep_trailing_newline=True)
    for name in _REMOVED_FILTERS:
        environment.remove_filter(name)
    for name in _REMOVED_FUNCTIONS:
        environment.remove_global(name)
    environment.add_filter("tojson", as_json)
    for name, function in ADDED.items():
        environment.add_filter(name, function)
    return environment


_ENVIRONMENT = _environment()


def parsed(text: str, *, expression: bool) -> TemplateCode:
    """Raises ExpressionError for wrong syntax."""
    try:
        return uses(text, expression=expression)
    except TemplateError as fault:
        raise _in_braces(_error(fault, as_expression(text) if expression and fault.range else text), text) from fault


def _in_braces(wrong: ExpressionError, text: str) -> ExpressionError:
    """The same, said of the text as it was written: its `}}` was read as a parenthesis."""
    line = text.split("\n")[wrong.line - 1] if wrong.line else ""
    if wrong.message != "unexpected `)`" or line[(wrong.column or 1) - 1 : wrong.column] == ")":
        return wrong
    return ExpressionError("unexpected end of expression", wrong.line, wrong.column)


def render(value: JSON, scope: Mapping[str, Any]) -> JSON:
    """Any JSON with its templates rendered; keys stay. A text that is one `{{ … }}` gives the value itself."""
    if isinstance(value, str):
        if not has_code(value):
            return value
        take(EACH_TEXT)
        return _render_text(value, scope)
    if isinstance(value, dict):
        return {key: render(inner, scope) for key, inner in value.items()}
    if isinstance(value, list):
        return [render(inner, scope) for inner in value]
    return value


def evaluate(expression: str, scope: Mapping[str, Any]) -> JSON:
    """The value of `a.b > 1`, also written as `{{a.b}} > 1`. Raises ExpressionError."""
    names = _names(parsed(expression, expression=True), scope)
    source = as_expression(expression)
    try:
        value = _ENVIRONMENT.eval_expr(source, **names)
        if value is None:
            # null or undefined? Only printing tells, and it tells which name it was.
            _printed.count = 0
            _ENVIRONMENT.render_str("{{" + source + "\n}}", **names)
        result = to_json(value)
        if result is not unwrap(value) or not isinstance(result, dict | list):
            # Run data itself was checked when it came in, and may be large.
            take_all(result)
            check_storable(result)
    except Heavy:
        raise
    except Exception as fault:
        raise _error(fault, source) from fault
    return result


def refused_statements(code: TemplateCode) -> list[Wrong]:
    return [
        (f"`{{% {use.name} %}}` is not available", use.line, use.column)
        for use in code.statements
        if use.name in _REFUSED_STATEMENTS
    ]


def _render_text(text: str, scope: Mapping[str, Any]) -> JSON:
    if is_whole_expression(text):
        return evaluate(text, scope)
    code = parsed(text, expression=False)
    if refused := refused_statements(code):
        raise ExpressionError(*refused[0])
    _printed.count = 0
    try:
        return _ENVIRONMENT.render_str(text, **_names(code, scope))
    except Heavy:
        raise
    except Exception as fault:
        raise _error(fault, text) from fault


def _names(code: TemplateCode, scope: Mapping[str, Any]) -> dict[str, Any]:
    """What the text asks for, out of a scope that may be lazy."""
    wanted = {NODES if use.is_node else use.name for use in code.uses}
    return {name: view(scope[name]) for name in wanted if name in scope and name != "self"}


def _filter_at(name: str, source: str) -> tuple[int | None, int | None]:
    """Where a filter stands; None where it stands more than once, and nobody knows which of them it was."""
    found = [match.end() - len(name) for match in re.finditer(rf"\|\s*{name}\b", source)]
    return position(source, found[0]) if len(found) == 1 else (None, None)


def _error(fault: Exception, source: str) -> ExpressionError:
    """`source` is what was evaluated: the text itself, or as wide as it."""
    if isinstance(fault, AttributeError):
        return ExpressionError(f"there is no method `{fault.name}` here")
    if isinstance(fault, FilterFault):
        return ExpressionError(str(fault), *_filter_at(fault.name, source))
    if not isinstance(fault, TemplateError):
        return ExpressionError(str(fault) or type(fault).__name__)
    message = (fault.detail or fault.message).replace("variable block", "expression")
    if message.startswith("panic"):
        return ExpressionError("the template takes more memory than it may")
    if fault.kind == "UndefinedError":
        message += "; where it may be missing, write `… | default(value)`"
    elif fault.kind == "OutOfFuel":
        message = f"the template takes more than {FUEL:,} steps"
    if fault.range is None:
        # A comparison does not tell its place, but which name was undefined.
        named = (fault.detail or "").split("`")[1:2]
        found = source.find(named[0]) if named else -1
        return ExpressionError(message, *(position(source, found) if found >= 0 else (fault.line, None)))
    ran = fault.template_source or source
    # minijinja counts bytes, in a source that may be wrapped in braces of ours.
    offset = len(ran.encode()[: fault.range[0]].decode(errors="ignore"))
    offset -= 2 if ran == "{{" + source + "\n}}" else 0
    return ExpressionError(message, *position(source, min(max(offset, 0), len(source))))


def render_isolated(value: JSON, scope: dict[str, JSON]) -> dict[str, JSON]:
    """Run `render` in the isolation process. Returns `{value}`, or `{wrong: [message, line, column]}`."""
    return _isolated(render, value, scope)


def evaluate_isolated(expression: str, scope: dict[str, JSON]) -> dict[str, JSON]:
    """Run `evaluate` in the isolation process. Returns as `render_isolated`."""
    return _isolated(evaluate, expression, scope)


def _isolated(task: Callable[[Any, Mapping[str, Any]], JSON], source: JSON, scope: dict[str, JSON]) -> dict[str, JSON]:
    try:
        value = task(source, scope)
        check_storable(value)  # Checked here, so that a value that is too large is not sent.
    except ExpressionError as error:
        return {"wrong": [error.message, error.line, error.column]}
    except NotStorable as error:
        return {"wrong": [f"the templates give too much: {error}", None, None]}
    return {"value": value}
