"""Render templates and evaluate expressions over the values of a run.

Values are data: a rendered value is never rendered again, and a condition is never built by
inserting values into a text. A template that is light by its source and reads little data is
evaluated in this process. All others are evaluated in the isolation process, which has limits.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from itertools import islice
from typing import Any

from engine.expressions import environment
from engine.expressions.analysis import NODES, Problem, TemplateCode, cost_of, references
from engine.expressions.cost import CostEstimate
from engine.expressions.environment import FUEL, MAX_TEXT, parse
from engine.expressions.errors import ExpressionError
from engine.expressions.lexer import has_code, is_whole_expression, value_before_braces
from engine.expressions.secret_results import MAX_RESULTS, collecting
from engine.expressions.views import WorkLimitExceeded, metered
from engine.isolation import client
from engine.types import JSON

__all__ = [
    "FUEL",
    "MAX_TEXT",
    "ExpressionError",
    "ExpressionKind",
    "check",
    "evaluate",
    "evaluate_as",
    "is_expression",
    "references",
    "render",
    "template_names",
    "truthy",
]

MAX_VALUES = 20_000
"""Values that an evaluation may read in this process, which takes about 10 ms."""
MAX_TEXTS = 500
"""Templates in one value that are rendered in this process."""
_TEXT_AFTER_BRACES = re.compile(r"\}\}(?:\.|\s*[\[({])")
Evaluate = Callable[[Any, Mapping[str, Any]], JSON]


class ExpressionKind(StrEnum):
    """How a text is evaluated. The members stand for the three kinds of fields in a spec."""

    TEMPLATE = "TEMPLATE"
    """A text with `{{ … }}` and `{% … %}`, as in a prompt. A single `{{ … }}` keeps its type."""
    EXPRESSION = "EXPRESSION"
    """An expression, such as `a.b + 1`. Braces in it are brackets."""
    CONDITION = "CONDITION"
    """An expression of which only true or false counts, as on an edge."""


def render(value: JSON, scope: Mapping[str, Any], secret_results: list[JSON] | None = None) -> JSON:
    """Render every template in a JSON value. Keys of objects are not rendered.

    Args:
        value: The value. A text that is one `{{ … }}` becomes the value of the expression, of any
            type. In other texts each expression is printed.
        scope: The values by name. It may load them lazily.
        secret_results: Receives the results of expressions that name secrets. None if `secrets` is
            an ordinary name in this scope.

    Raises:
        ExpressionError: A template is wrong, its evaluation fails or exceeds a limit.
    """
    if isinstance(value, str) and not has_code(value):
        return value
    texts = list(islice(_texts(value), MAX_TEXTS + 1))
    if len(texts) > MAX_TEXTS:
        return _run_isolated(environment.render, value, dict(scope), secret_results)
    codes = [(text, is_whole_expression(text)) for text in texts]
    return _evaluate_texts(environment.render, value, codes, scope, secret_results)


def evaluate(expression: str, scope: Mapping[str, Any], secret_results: list[JSON] | None = None) -> JSON:
    """Evaluate an expression, such as `a.b > 1`, which may also be written as `{{a.b}} > 1`.

    Args:
        expression: The expression.
        scope: The values by name. It may load them lazily.
        secret_results: Receives the result if the expression names secrets, as in `render`.

    Raises:
        ExpressionError: The expression is wrong, its evaluation fails or exceeds a limit.
    """
    return _evaluate_texts(environment.evaluate, expression, [(expression, True)], scope, secret_results)


def truthy(expression: str, scope: Mapping[str, Any]) -> bool:
    """Evaluate a condition. False, 0, null, and empty texts, lists and objects count as false."""
    return bool(evaluate(expression, scope))


def evaluate_as(kind: ExpressionKind | None, text: str, scope: Mapping[str, Any]) -> JSON:
    """Evaluate a text of a kind; without one, of the kind that its form suggests.

    Args:
        kind: The kind. None: an expression if `is_expression`, or if the text has no braces.
        text: The text.
        scope: The values by name.

    Raises:
        ExpressionError: The text is wrong, its evaluation fails or exceeds a limit.
    """
    if kind is None:
        is_template = has_code(text) and not is_expression(text)
        kind = ExpressionKind.TEMPLATE if is_template else ExpressionKind.EXPRESSION
    if kind is ExpressionKind.TEMPLATE:
        return render(text, scope)
    return truthy(text, scope) if kind is ExpressionKind.CONDITION else evaluate(text, scope)


def is_expression(text: str) -> bool:
    """Tell whether a text is an expression: `a + 1` and `{{ a }} + 1`, but not `Dear {{ a }}`.

    Text directly before or after braces makes a template, as in `Dear {{ name }}`,
    `{{ name }}.png` and `{{ name }} (admin)`. It is not read as a call or a field.
    """
    if _TEXT_AFTER_BRACES.search(text) or value_before_braces(text) is not None:
        return False
    try:
        parse(text, expression=True)
    except ExpressionError:
        return False
    return True


def check(text: str, *, expression: bool = False) -> list[Problem]:
    """Find the problems of a text without evaluating it.

    Args:
        text: A template, or an expression.
        expression: Whether the whole text is an expression.

    Returns:
        Messages with line and column; empty if there is no problem.
    """
    if not expression and not has_code(text):
        return []
    try:
        return [*parse(text, expression=expression).problems]
    except ExpressionError as error:
        return [(error.message, error.line, error.column)]


def template_names(text: str) -> frozenset[str]:
    """Return the names that a template without problems uses."""
    return frozenset(use.name for use in parse(text, expression=False).uses) if has_code(text) else frozenset()


def _texts(value: JSON) -> Iterator[str]:
    """Iterate over the texts with code in a value."""
    if isinstance(value, str):
        if has_code(value):
            yield value
    elif isinstance(value, dict | list):
        for inner in value if isinstance(value, list) else value.values():
            yield from _texts(inner)


def _evaluate_texts(
    task: Evaluate,
    source: JSON,
    texts: list[tuple[str, bool]],
    scope: Mapping[str, Any],
    secret_results: list[JSON] | None,
) -> JSON:
    """Run a task in this process if it is cheap, else in the isolation process.

    Args:
        task: `environment.render` or `environment.evaluate`.
        source: Its first argument.
        texts: The texts with code in `source`, and whether each is an expression.
        scope: Its second argument.
        secret_results: Receives the results of expressions that name secrets.
    """
    codes = [parse(text, expression=expression) for text, expression in texts]
    costs = {cost_of(text, expression=expression) for text, expression in texts}
    if CostEstimate.HEAVY not in costs:
        results: list[JSON] | None = None if secret_results is None else []
        try:
            with collecting(results):
                allows_text = CostEstimate.NUMBERS not in costs
                value = metered(task, source, scope, values=MAX_VALUES, allows_text=allows_text)
            _add_results(results, secret_results)
            return value
        except WorkLimitExceeded:
            pass  # It starts again below. A template has no side effects, so this is safe.
    return _run_isolated(task, source, _used_values(codes, scope), secret_results)


def _add_results(results: list[JSON] | None, secret_results: list[JSON] | None) -> None:
    if results is None or secret_results is None:
        return
    if len(results) > MAX_RESULTS:
        raise ExpressionError(f"more than {MAX_RESULTS:,} results depend on a secret, which cannot all be hidden")
    secret_results += results


def _run_isolated(task: Evaluate, source: JSON, scope: Mapping[str, Any], secret_results: list[JSON] | None) -> JSON:
    name = f"engine.expressions.environment.{task.__name__}_isolated"
    try:
        result = client.run_isolated(name, source, scope, secret_results is not None)
    except client.ResourceLimitExceeded as error:
        raise ExpressionError(f"the template {error}") from None
    if "error" in result:
        raise ExpressionError(*result["error"])
    _add_results(result["results"], secret_results)
    return result["value"]


def _used_values(codes: list[TemplateCode], scope: Mapping[str, Any]) -> dict[str, JSON]:
    """Read the values that the texts use, as plain JSON. A lazy scope loads only these."""
    values: dict[str, JSON] = {}
    nodes: set[str] = set()
    for use in (use for code in codes for use in code.uses):
        if use.is_node:
            nodes.add(use.name)
        elif use.name in scope:
            values[use.name] = scope[use.name]
    if nodes and NODES not in values and NODES in scope:
        values[NODES] = {name: scope[NODES][name] for name in nodes if name in scope[NODES]}
    return values
