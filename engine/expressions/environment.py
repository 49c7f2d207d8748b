"""The minijinja environment that evaluates templates: with a fuel limit and read-only data.

Templates cannot reach Python objects. Fuel counts steps, not the cost of a step, so the callers
limit the cost: engine/expressions/evaluator.py limits the data that is read, and
engine/isolation/server.py the CPU time and the memory of its process. The module has no state.
"""

import threading
from collections.abc import Callable, Mapping
from itertools import islice
from json import dumps
from typing import Any

from minijinja import Environment, TemplateError

from engine.errors import NotStorable
from engine.expressions.analysis import NO_OPERATOR, NODES, TemplateCode, analyze, statement_problems
from engine.expressions.errors import ExpressionError, expression_error, without_values
from engine.expressions.filters import EXTRA_FILTERS, TESTS
from engine.expressions.lexer import (
    Segment,
    as_expression,
    empty_expression,
    has_code,
    is_whole_expression,
    position,
    segments,
    unclosed_braces,
    value_before_braces,
)
from engine.expressions.lowering import Lowered, lower_expression, lower_template, unchanged
from engine.expressions.names import REMOVED_FILTERS, REMOVED_FUNCTIONS, REMOVED_TESTS
from engine.expressions.ordering import UNDEFINED, compare, present
from engine.expressions.parser import COMPARE_FUNCTION, PRESENT_FILTER, TEXT_FILTER, UNDEFINED_NAME, WRITTEN_ARGUMENTS
from engine.expressions.secret_results import FILTER, collect, collecting, is_collecting, is_one_unit, with_collection
from engine.expressions.texts import argument, as_text, operand, written
from engine.expressions.views import (
    WorkLimitExceeded,
    charge,
    charge_all,
    has_number,
    to_plain,
    unwrap,
    view,
    with_limit_float,
)
from engine.types import JSON
from engine.values.storable import INT_MAX, check_storable

FUEL = 100_000
"""Instructions of one evaluation: a loop of a few ten thousand iterations."""
MAX_TEXT = 4 * 1024 * 1024
"""Characters that one template may print."""
MAX_SEARCHED = 20
"""Expressions of a template among which the one that fails is searched."""
TEXT_COST = 40
"""The cost of starting the evaluation of a text, in the unit of views.charge."""

_NO_END = ("end of the text", "no statement `end")
_CLOSING = {"{{": "}}", "{%": "%}", "{#": "#}"}


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
    for name in REMOVED_FILTERS:
        environment.remove_filter(name)
    for name in REMOVED_TESTS:
        environment.remove_test(name)
    for name in REMOVED_FUNCTIONS:
        environment.remove_global(name)
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
        converted = expression_error(error, source, unchanged(source), FUEL)
        raise _with_place(_for_braces(converted, text, expression), text, expression) from error


def _for_braces(error: ExpressionError, text: str, expression: bool) -> ExpressionError:
    """Correct the message for a text with braces, which the parser has read as parentheses."""
    opening = unclosed_braces(text, expression=expression)
    if opening is not None and "end of string" not in error.message:
        braces = text[opening : opening + 2]
        closing = _CLOSING[braces]
        return ExpressionError(f"`{braces}` has no end: write `{closing}` after it", *position(text, opening))
    # A statement without its end is the problem only where the parser has found another end.
    problem = None if expression else next(statement_problems(text), None)
    if problem and ("has no end" not in problem[0] or any(part in error.message for part in _NO_END)):
        return ExpressionError(*problem)
    at = value_before_braces(text) if expression else None
    if at is not None:
        return ExpressionError(NO_OPERATOR, *position(text, at))
    line = text.split("\n")[error.line - 1] if error.line else ""
    if not error.message.startswith("unexpected `)`") or line[(error.column or 1) - 1 : error.column] == ")":
        return error
    expected = error.message.removeprefix("unexpected `)`").replace(", expected `,`", ", expected `]`")
    return ExpressionError(f"unexpected end of expression{expected}", error.line, error.column)


def _with_place(
    error: ExpressionError, text: str, expression: bool, names: dict[str, Any] | None = None
) -> ExpressionError:
    """Give an error without a place the start of the code that fails."""
    if error.line and error.column:
        return error
    codes = [] if expression else list(islice(segments(text), MAX_SEARCHED))
    found = _first_failing(codes, text, names)
    start, end = (found.start, found.end) if found else (0, len(text))
    code = text[start:end]
    start += len(code) - len(code.lstrip(" \t\r\n({-+"))
    return ExpressionError(error.message, *position(text, min(start, max(len(text) - 1, 0))))


def _first_failing(codes: list[Segment], text: str, names: dict[str, Any] | None) -> Segment | None:
    failing = (one for one in codes if _fails(text[one.start - 2 : one.outer_end], names))
    return next(failing, codes[0] if codes else None)


def _fails(code: str, names: dict[str, Any] | None) -> bool:
    """Tell whether one `{{ … }}` fails by itself. One that uses a variable of its template fails too."""
    if names is None or not code.startswith("{{"):
        return False
    try:
        _ENVIRONMENT.render_str(lower_template(code).source, **names)
    except WorkLimitExceeded:
        raise
    except Exception:
        return True
    return False


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
    if code.problems:
        raise ExpressionError(*code.problems[0])
    source = as_expression(expression)
    try:
        result = with_limit_float(_evaluated, source, code, scope)
    except WorkLimitExceeded:
        raise
    except Exception as error:
        raise _with_place(_failure(error, source, lower_expression, code), expression, True) from error
    if code.secrets:
        collect(result)
    return result


def _evaluated(source: str, code: TemplateCode, scope: Mapping[str, Any]) -> JSON:
    names, lowered = _visible(code, scope), lower_expression(source).source
    value = _ENVIRONMENT.eval_expr(lowered, **names)
    if value is None:
        # The value is null or undefined. Only printing raises an error for undefined, with the name.
        _output.size = 0
        _ENVIRONMENT.render_str("{{" + lowered + "\n}}", **names)
    result = to_plain(value)
    if result is not unwrap(value) or not isinstance(result, dict | list):
        # Run data was checked when it entered the run and may be large, so it is not checked again.
        charge_all(result)
        check_storable(result)
        if has_number(result, INT_MAX):
            result = _with_limit_floats(result, f"({lowered}\n)", names)
    return result


def _with_limit_floats(result: JSON, source: str, names: dict[str, Any]) -> JSON:
    """Write the float 2**63 where minijinja has made 2**63-1 of it. It compares the two rightly."""
    if isinstance(result, list):
        return [_with_limit_floats(item, f"{source}[{index}]", names) for index, item in enumerate(result)]
    if isinstance(result, dict):
        return {key: _with_limit_floats(item, f"{source}[{dumps(key)}]", names) for key, item in result.items()}
    if result != INT_MAX or type(result) is bool or _ENVIRONMENT.eval_expr(f"{source} == {INT_MAX}", **names):
        return result
    return float(INT_MAX)


def _render_text(text: str, scope: Mapping[str, Any]) -> JSON:
    if is_whole_expression(text):
        return evaluate(text, scope)
    code = parse(text, expression=False)
    if code.problems:
        raise ExpressionError(*code.problems[0])
    try:
        return with_limit_float(_rendered, text, code, scope)
    except WorkLimitExceeded:
        raise
    except Exception as error:
        names = _visible(code, scope)
        raise _with_place(_failure(error, text, lower_template, code), text, False, names) from error


def _rendered(text: str, code: TemplateCode, scope: Mapping[str, Any]) -> str:
    _output.size = 0
    source, names = lower_template(text).source, _visible(code, scope)
    rendered = _ENVIRONMENT.render_str(source, **names)
    if code.secrets and is_collecting():
        _collect_results(text, names, rendered)
    return rendered


def _collect_results(text: str, names: dict[str, Any], rendered: str) -> None:
    """Collect the results of the expressions of a template that name secrets.

    The template is rendered a second time. So its result and the places of its errors are those of
    the text that the author wrote.
    """
    _output.size = 0
    _ENVIRONMENT.render_str(lower_template(with_collection(text)).source, **names)
    if is_one_unit(text):
        collect(rendered)


def _failure(error: Exception, text: str, lower: Callable[[str], Lowered], code: TemplateCode) -> ExpressionError:
    """Convert an exception. If the text names secrets, the message contains no value."""
    try:
        lowered = lower(text)
    except RecursionError:
        lowered = unchanged(text)
    converted = expression_error(error, text, lowered, FUEL)
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
