"""The minijinja environment that evaluates templates: with a fuel limit and read-only data.

Templates cannot reach Python objects. Fuel counts steps, not the cost of a step, so the callers
limit the cost: engine/expressions/evaluator.py limits the data that is read, and
engine/isolation/server.py the CPU time and the memory of its process. The module has no state.
"""

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from minijinja import Environment, TemplateError

from engine.errors import NotStorable
from engine.expressions.analysis import NODES, TemplateCode, analyze
from engine.expressions.errors import ExpressionError, Problem, expression_error, without_values
from engine.expressions.filters import EXTRA_FILTERS, TESTS
from engine.expressions.lexer import as_expression, empty_expression, has_code, is_whole_expression, position
from engine.expressions.lowering import Lowered, lower_expression, lower_template, unchanged
from engine.expressions.ordering import UNDEFINED, compare, present
from engine.expressions.parser import COMPARE_FUNCTION, PRESENT_FILTER, TEXT_FILTER, UNDEFINED_NAME, WRITTEN_ARGUMENTS
from engine.expressions.secret_results import FILTER, collect, collecting, is_collecting, is_one_unit, with_collection
from engine.expressions.texts import argument, as_text, operand, written
from engine.expressions.views import WorkLimitExceeded, charge, charge_all, to_json_text, to_plain, unwrap, view
from engine.types import JSON
from engine.values.storable import INT_MAX, check_storable

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


class _TextLimitExceeded(Exception):
    """One template printed more than MAX_TEXT characters."""


class _Output(threading.local):
    """The number of characters that the current template of this thread has printed."""

    size = 0


_output = _Output()


def _print(value: Any) -> str:
    """Format a value inside a text: a text as itself, null as nothing, all else as JSON."""
    text = as_text(value)
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
    environment.add_filter(FILTER, collect)
    for name, test in TESTS.items():
        environment.add_test(name, test)
    environment.add_filter(PRESENT_FILTER, present)
    environment.add_filter(TEXT_FILTER, operand)
    environment.add_filter(WRITTEN_ARGUMENTS["format"], argument)
    environment.add_filter(WRITTEN_ARGUMENTS["join"], written)
    environment.add_global(COMPARE_FUNCTION, compare)
    environment.add_global(UNDEFINED_NAME, UNDEFINED)
    return environment


_ENVIRONMENT = _environment()


@lru_cache(maxsize=256)
def has_test(name: str) -> bool:
    """Return whether templates have a test of this name, such as `defined`."""
    return bool(_ENVIRONMENT.eval_expr("name is test", name=name))


def parse(text: str, *, expression: bool) -> TemplateCode:
    """Parse a text.

    Args:
        text: A template, or an expression.
        expression: Whether the whole text is an expression.

    Raises:
        ExpressionError: The syntax is wrong.
    """
    if (empty := empty_expression(text, expression=expression)) is not None:
        raise ExpressionError("the expression is empty", *position(text, empty))
    try:
        return analyze(text, expression=expression)
    except TemplateError as error:
        source = as_expression(text) if expression and error.range else text
        raise _for_braces(expression_error(error, source, unchanged(source), FUEL), text) from error


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
    code = parse(expression, expression=True)
    names = _visible(code, scope)
    source = as_expression(expression)
    lowered: Lowered | None = None
    try:
        lowered = lower_expression(source)
        value = _ENVIRONMENT.eval_expr(lowered.source, **names)
        if value is None:
            # The value is null or undefined. Only printing raises an error for undefined, with the
            # name.
            _output.size = 0
            _ENVIRONMENT.render_str("{{" + lowered.source + "\n}}", **names)
        result = to_plain(value)
        if result == INT_MAX and not _ENVIRONMENT.eval_expr(f"({lowered.source}\n) == {INT_MAX}", **names):
            result = float(INT_MAX)  # minijinja makes INT_MAX of the float 2**63
        if result is not unwrap(value) or not isinstance(result, dict | list):
            # Run data was checked when it entered the run and may be large, so it is not checked
            # again.
            charge_all(result)
            check_storable(result)
    except WorkLimitExceeded:
        raise
    except Exception as error:
        raise _failure(error, source, lowered, code) from error
    if code.secrets:
        collect(result)
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
    lowered: Lowered | None = None
    try:
        lowered = lower_template(text)
        names = _visible(code, scope)
        rendered = _ENVIRONMENT.render_str(lowered.source, **names)
        if code.secrets and is_collecting():
            _collect_results(text, names, rendered)
        return rendered
    except WorkLimitExceeded:
        raise
    except Exception as error:
        raise _failure(error, text, lowered, code) from error


def _collect_results(text: str, names: dict[str, Any], rendered: str) -> None:
    """Collect the results of the expressions of a template that name secrets.

    The template is rendered a second time. So its result and the places of its errors are those of
    the text that the author wrote.
    """
    _output.size = 0
    _ENVIRONMENT.render_str(lower_template(with_collection(text)).source, **names)
    if is_one_unit(text):
        collect(rendered)


def _failure(error: Exception, text: str, lowered: Lowered | None, code: TemplateCode) -> ExpressionError:
    """Convert an exception. If the text names secrets, the message contains no value."""
    converted = expression_error(error, text, lowered or unchanged(text), FUEL)
    return without_values(error, converted) if code.secrets and is_collecting() else converted


def _visible(code: TemplateCode, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Read the values that a text uses from a scope that may load them lazily."""
    names = {NODES if use.is_node else use.name for use in code.uses}
    return {name: view(scope[name]) for name in names if name in scope and name != "self"}


def render_isolated(value: JSON, scope: dict[str, JSON], collects: bool) -> dict[str, JSON]:
    """Run `render` in the isolation process.

    Args:
        value: The value to render.
        scope: The values that it uses, by name.
        collects: Whether to collect the results of expressions that name secrets.

    Returns:
        `{"value": …, "results": […]}`, or `{"error": [message, line, column]}`.
    """
    return _isolated(render, value, scope, collects)


def evaluate_isolated(expression: str, scope: dict[str, JSON], collects: bool) -> dict[str, JSON]:
    """Run `evaluate` in the isolation process. See `render_isolated`."""
    return _isolated(evaluate, expression, scope, collects)


def _isolated(
    task: Callable[[Any, Mapping[str, Any]], JSON], source: JSON, scope: dict[str, JSON], collects: bool
) -> dict[str, JSON]:
    results: list[JSON] = []
    try:
        with collecting(results if collects else None):
            value = task(source, scope)
        check_storable(value)  # Checked here, so that a value that is too large is not sent.
    except ExpressionError as error:
        return {"error": [error.message, error.line, error.column]}
    except NotStorable as error:
        return {"error": [f"the result of the templates cannot be stored: {error}", None, None]}
    return {"value": value, "results": results}
