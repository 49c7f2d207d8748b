"""Templates and expressions over a run's values: what may be asked of them, and where each of them is evaluated.

Values are data: a rendered value is never rendered again, and a condition is never made by pasting values into text.
What is light by its text and looks at little is evaluated here. All else is done aside, in a process with limits.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from engine.expressions import environment
from engine.expressions.analysis import NODES, TemplateCode, references, weight
from engine.expressions.cost import CostEstimate
from engine.expressions.environment import FILTERS, FUEL, MAX_TEXT, ExpressionError, Wrong, parsed, refused_statements
from engine.expressions.lexer import has_code, is_whole_expression
from engine.expressions.views import Heavy, metered
from engine.isolation import client
from engine.types import JSON

__all__ = [
    "FUEL",
    "MAX_TEXT",
    "ExpressionError",
    "check",
    "evaluate",
    "is_expression",
    "references",
    "render",
    "truthy",
]

MAX_VALUES = 20_000
"""Values that an evaluation may look at here: some 10 ms."""
MAX_TEXTS = 500
"""Texts of one value that are looked into here."""
_TEXT_BEHIND = re.compile(r"\}\}(?:\.|\s*[\[({])")
Evaluate = Callable[[Any, Mapping[str, Any]], JSON]


def render(value: JSON, scope: Mapping[str, Any]) -> JSON:
    """Any JSON with its templates rendered; keys stay. A text that is one `{{ … }}` gives the value itself."""
    if isinstance(value, str) and not has_code(value):
        return value
    texts = list(islice(_texts(value), MAX_TEXTS + 1))
    if len(texts) > MAX_TEXTS:
        return _aside(environment.render, value, dict(scope))
    return _evaluated(environment.render, value, [(text, is_whole_expression(text)) for text in texts], scope)


def evaluate(expression: str, scope: Mapping[str, Any]) -> JSON:
    """The value of `a.b > 1`, also written as `{{a.b}} > 1`. Raises ExpressionError."""
    return _evaluated(environment.evaluate, expression, [(expression, True)], scope)


def truthy(expression: str, scope: Mapping[str, Any]) -> bool:
    """Whether a condition holds: 0, "", null and what is empty do not."""
    return bool(evaluate(expression, scope))


def is_expression(text: str) -> bool:
    """Whether a text can be read as an expression: all of `a + 1`, `{{ a }} + 1` and `{{ a + 1 }}`, and not `Dear {{ a }}`.

    What stands right behind braces is text, as in `{{ name }}.png` and `{{ name }} (admin)`, and neither a field nor a call.
    """
    if _TEXT_BEHIND.search(text):
        return False
    try:
        parsed(text, expression=True)
    except ExpressionError:
        return False
    return True


def check(text: str, *, expression: bool = False) -> list[Wrong]:
    """What is wrong with a text before anything is evaluated; empty if nothing is."""
    if not expression and not has_code(text):
        return []
    try:
        code = parsed(text, expression=expression)
    except ExpressionError as wrong:
        return [(wrong.message, wrong.line, wrong.column)]
    unknown = [use for use in code.filters if use.name not in FILTERS]
    return [*((f"there is no filter `{use.name}`", use.line, use.column) for use in unknown), *refused_statements(code)]


def _texts(value: JSON) -> Iterator[str]:
    if isinstance(value, str):
        if has_code(value):
            yield value
    elif isinstance(value, dict | list):
        for inner in value if isinstance(value, list) else value.values():
            yield from _texts(inner)


def _evaluated(here: Evaluate, what: JSON, texts: list[tuple[str, bool]], scope: Mapping[str, Any]) -> JSON:
    """`texts` are those in `what` that hold code, and whether they are expressions."""
    codes = [parsed(text, expression=expression) for text, expression in texts]
    weights = {weight(text, expression=expression) for text, expression in texts}
    if CostEstimate.HEAVY not in weights:
        try:
            return metered(here, what, scope, values=MAX_VALUES, takes_text=CostEstimate.NUMBERS not in weights)
        except Heavy:
            pass  # it begins anew: nothing that a template does can be seen from outside
    return _aside(here, what, _wanted(codes, scope))


def _aside(task: Evaluate, what: JSON, scope: Mapping[str, Any]) -> JSON:
    try:
        done = client.run_isolated(f"engine.expressions.environment.{task.__name__}_isolated", what, scope)
    except client.ResourceLimitExceeded as too_much:
        raise ExpressionError(f"the template {too_much}") from None
    if "wrong" in done:
        raise ExpressionError(*done["wrong"])
    return done["value"]


def _wanted(codes: list[TemplateCode], scope: Mapping[str, Any]) -> dict[str, JSON]:
    """What the texts ask for, as plain JSON. Of what is looked up as it is asked for, that alone."""
    wanted: dict[str, JSON] = {}
    nodes: set[str] = set()
    for use in (use for code in codes for use in code.uses):
        if use.is_node:
            nodes.add(use.name)
        elif use.name in scope:
            wanted[use.name] = scope[use.name]
    if nodes and NODES not in wanted and NODES in scope:
        wanted[NODES] = {name: scope[NODES][name] for name in nodes if name in scope[NODES]}
    return wanted
