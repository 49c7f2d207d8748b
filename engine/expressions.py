"""Templates and expressions over a run's values: minijinja with a fuel limit, read-only data and no Python behind it.

Values are data: a rendered value is never rendered again, and a condition is never made by pasting values into text.
"""

import threading
from collections.abc import Mapping
from typing import Any

from minijinja import Environment, TemplateError

from engine.events import JSON
from engine.names import references, uses
from engine.storable import check_storable
from engine.syntax import (
    Part,
    as_expression,
    has_code,
    is_whole_expression,
    position,
    segments,
    statement_word,
)
from engine.views import as_json, to_json, view

__all__ = ["ExpressionError", "check", "evaluate", "references", "render", "truthy"]

FUEL = 100_000
"""Instructions of one evaluation; a loop of a few ten thousand turns."""
MAX_TEXT = 4 * 1024 * 1024
"""Characters that one template may print."""
# fmt: off
FILTERS = frozenset({
    "abs", "bool", "capitalize", "chain", "count", "d", "default", "dictsort", "first", "float", "groupby", "int",
    "items", "join", "last", "length", "lines", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace",
    "reverse", "round", "select", "selectattr", "sort", "split", "string", "sum", "title", "tojson", "trim", "unique",
    "upper", "urlencode", "zip",
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
    return environment


_ENVIRONMENT = _environment()


def render(value: JSON, scope: Mapping[str, Any]) -> JSON:
    """Any JSON with its templates rendered; keys stay. A text that is one `{{ … }}` gives the value itself."""
    if isinstance(value, str):
        return _render_text(value, scope) if has_code(value) else value
    if isinstance(value, dict):
        return {key: render(inner, scope) for key, inner in value.items()}
    if isinstance(value, list):
        return [render(inner, scope) for inner in value]
    return value


def evaluate(expression: str, scope: Mapping[str, Any]) -> JSON:
    """The value of `a.b > 1`, also written as `{{a.b}} > 1`. Raises ExpressionError."""
    source = as_expression(expression)
    names = _names(expression, scope, expression=True)
    try:
        value = _ENVIRONMENT.eval_expr(source, **names)
        if value is None:
            # null or undefined? Only printing tells, and it tells which name it was.
            _printed.count = 0
            _ENVIRONMENT.render_str("{{" + source + "\n}}", **names)
        result = to_json(value)
        check_storable(result)
    except Exception as fault:
        raise _error(fault, source) from fault
    return result


def truthy(expression: str, scope: Mapping[str, Any]) -> bool:
    """Whether a condition holds: 0, "", null and what is empty do not."""
    return bool(evaluate(expression, scope))


def check(text: str, *, expression: bool = False) -> list[Wrong]:
    """What is wrong with a text before anything is evaluated; empty if nothing is."""
    if not expression and not has_code(text):
        return []
    try:
        code = uses(text, expression=expression)
    except TemplateError as fault:
        error = _error(fault, as_expression(text) if expression else text)
        return [(error.message, error.line, error.column)]
    unknown = [use for use in code.filters if use.name not in FILTERS]
    wrong: list[Wrong] = [(f"there is no filter `{use.name}`", use.line, use.column) for use in unknown]
    return wrong + ([] if expression else _refused_statements(text))


def _render_text(text: str, scope: Mapping[str, Any]) -> JSON:
    if is_whole_expression(text):
        return evaluate(text, scope)
    if refused := _refused_statements(text):
        raise ExpressionError(*refused[0])
    names = _names(text, scope, expression=False)
    _printed.count = 0
    try:
        return _ENVIRONMENT.render_str(text, **names)
    except Exception as fault:
        raise _error(fault, text) from fault


def _names(text: str, scope: Mapping[str, Any], *, expression: bool) -> dict[str, Any]:
    """What the text asks for, out of a scope that may be lazy. Raises ExpressionError for wrong syntax."""
    try:
        wanted = {"nodes" if use.is_node else use.name for use in uses(text, expression=expression).uses}
    except TemplateError as fault:
        raise _error(fault, as_expression(text) if expression else text) from fault
    return {name: view(scope[name]) for name in wanted if name in scope and name != "self"}


def _refused_statements(text: str) -> list[Wrong]:
    if "{%" not in text:
        return []
    words = ((statement_word(text[s.start : s.end]), s) for s in segments(text) if s.part is Part.STATEMENT)
    return [
        (f"`{{% {word} %}}` is not available", *position(text, s.start))
        for word, s in words
        if word in _REFUSED_STATEMENTS
    ]


def _error(fault: Exception, source: str) -> ExpressionError:
    """`source` is what was evaluated: the text itself, or as wide as it."""
    if isinstance(fault, AttributeError):
        return ExpressionError(f"there is no method `{fault.name}` here")
    if not isinstance(fault, TemplateError):
        return ExpressionError(str(fault) or type(fault).__name__)
    message = (fault.detail or fault.kind).replace("variable block", "expression")
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
