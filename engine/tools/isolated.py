"""Tools whose arguments are programs of a kind: queries, patterns, formulas. Done aside, with limits on time and memory.

Imported by engine/isolation/server.py, so that it must start quickly: libraries are imported where they are used.
"""

import ast
import csv
import io
import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from engine.types import JSON
from engine.values.storable import INT_MAX, INT_MIN

MAX_PATTERN_MEMORY = 8 * 1024 * 1024
MAX_MATCHES = 10_000
MAX_POWER = 4096
"""Bits of what a power may give."""


class Wrong(Exception):
    """The arguments fit the schema and still make no sense; reads as a sentence."""


def json_query(
    *,
    data: Annotated[Any, Field(description="The JSON to look into.")],
    expression: Annotated[
        str,
        Field(
            min_length=1, max_length=10_000, description="A JMESPath expression.", examples=["orders[?total > `10`].id"]
        ),
    ],
) -> JSON:
    """Selects and reshapes JSON with a JMESPath expression."""
    import jmespath

    try:
        return jmespath.search(expression, data)
    except (jmespath.exceptions.JMESPathError, ValueError) as wrong:
        raise Wrong(" ".join(str(wrong).split())) from wrong


def regex_find(
    *,
    text: Annotated[str, Field(description="The text to search.")],
    pattern: Annotated[
        str, Field(max_length=10_000, description="A regular expression (RE2: no look-around, no back references).")
    ],
    limit: Annotated[int, Field(ge=1, le=MAX_MATCHES, description="How many matches are given at most.")] = 100,
) -> JSON:
    """Finds the matches of a pattern, with their groups, in linear time."""
    found = []
    for match, _ in zip(_pattern(pattern).finditer(text), range(limit), strict=False):
        groups = {"groups": list(match.groups()), "named": match.groupdict()}
        found.append({"match": match.group(0), "start": match.start(), "end": match.end(), **groups})
    return found


def regex_replace(
    *,
    text: Annotated[str, Field(description="The text to change.")],
    pattern: Annotated[
        str, Field(max_length=10_000, description="A regular expression (RE2: no look-around, no back references).")
    ],
    replacement: Annotated[
        str, Field(max_length=10_000, description="What stands in its place; `\\1` is the first group.")
    ],
) -> JSON:
    """Replaces every match of a pattern, in linear time."""
    import re2

    try:
        return _pattern(pattern).sub(replacement, text)
    except (re2.error, IndexError) as wrong:
        raise Wrong(f"the replacement cannot be used: {_said(wrong)}") from wrong


def _pattern(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors, options.max_mem = False, MAX_PATTERN_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as wrong:
        raise Wrong(f"the pattern cannot be used: {_said(wrong)}") from wrong


def _said(wrong: Exception) -> str:
    said = wrong.args[0] if wrong.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def csv_parse(
    *,
    text: Annotated[str, Field(description="The CSV.")],
    delimiter: Annotated[str, Field(min_length=1, max_length=1, description="What stands between two values.")] = ",",
    header: Annotated[bool, Field(description="Whether the first row holds the names.")] = True,
) -> JSON:
    """Reads CSV into a list of objects (with a header) or of lists. Values stay text."""
    csv.field_size_limit(len(text) + 1)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as wrong:
        raise Wrong(f"this is no CSV: {wrong}") from wrong
    rows = [row for row in rows if row]
    if not header or not rows:
        return rows
    names, *lines = rows
    if len(set(names)) < len(names):
        raise Wrong(f"the header names a column twice: {next(name for name in names if names.count(name) > 1)!r}")
    for number, line in enumerate(lines, 2):
        if len(line) != len(names):
            raise Wrong(f"row {number} has {len(line)} values, and the header {len(names)}")
    return [dict(zip(names, line, strict=True)) for line in lines]


def math_evaluate(
    *,
    expression: Annotated[str, Field(min_length=1, max_length=1000, description="Such as `round(price * 1.19, 2)`.")],
    variables: Annotated[dict[str, float], Field(description="Numbers by name.")] = {},  # noqa: B006
) -> JSON:
    """Calculates with + - * / // % **, abs, ceil, exp, floor, log, log10, max, min, round, sqrt, sin, cos, tan, pi and e."""
    import simpleeval

    operators = {**simpleeval.DEFAULT_OPERATORS, ast.Pow: _power}
    calculator = simpleeval.SimpleEval(operators, _FUNCTIONS, {"pi": math.pi, "e": math.e, **variables})
    for node in (ast.Attribute, ast.Subscript, ast.JoinedStr):
        calculator.nodes.pop(node, None)
    try:
        result = calculator.eval(expression)
    except (simpleeval.InvalidExpression, SyntaxError, ArithmeticError, TypeError, ValueError, AttributeError) as wrong:
        raise Wrong(f"{expression[:80]!r} cannot be calculated: {wrong}") from wrong
    if not isinstance(result, int | float) or not math.isfinite(result):
        raise Wrong(f"{expression[:80]!r} gives no number")
    if isinstance(result, int) and not INT_MIN <= result <= INT_MAX:
        raise Wrong(f"{expression[:80]!r} gives a whole number beyond 64 bits")
    return result


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "ceil": math.ceil, "cos": math.cos, "exp": math.exp, "floor": math.floor, "log": math.log, "log10": math.log10,
    "max": max, "min": min, "round": round, "sin": math.sin, "sqrt": math.sqrt, "tan": math.tan,
}  # fmt: skip


def _power(base: float, exponent: float) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MAX_POWER:
        return float(base) ** exponent
    return base**exponent


HEAVY: dict[str, Callable[..., JSON]] = {
    function.__name__: function for function in (json_query, regex_find, regex_replace, csv_parse, math_evaluate)
}


def run(name: str, arguments: dict[str, JSON]) -> dict[str, JSON]:
    """Done aside: JSON in, JSON out."""
    try:
        return {"value": HEAVY[name](**arguments)}
    except Wrong as wrong:
        return {"wrong": str(wrong)}
    except RecursionError:
        return {"wrong": "this is nested too deeply"}
