"""Built-in tools whose arguments are small programs: queries, patterns, formulas.

They run in the isolated process with limits on CPU time and memory. That process imports this
module and must start quickly, so libraries are imported where they are used.
"""

import ast
import csv
import io
import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from engine.tools.argument_messages import pattern_message, query_message, replacement_message
from engine.types import JSON
from engine.values.storable import INT_MAX, INT_MIN

MAX_PATTERN_MEMORY = 8 * 1024 * 1024
"""Bytes of a compiled pattern."""
MAX_MATCHES = 10_000
MAX_POWER = 4096
"""Bits of a power of integers; larger ones are computed with floats."""


class InvalidArguments(Exception):
    """The arguments match the schema but cannot be used; the message is for the author."""


def json_query(
    *,
    data: Annotated[Any, Field(description="The JSON to query.")],
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
    except RecursionError:
        raise
    except Exception as error:  # its functions raise TypeError and others for values that do not fit
        raise InvalidArguments(query_message(error, expression)) from error


def regex_find(
    *,
    text: Annotated[str, Field(description="The text to search.")],
    pattern: Annotated[
        str, Field(max_length=10_000, description="A regular expression (RE2: no look-around, no back references).")
    ],
    limit: Annotated[int, Field(ge=1, le=MAX_MATCHES, description="Maximum number of matches.")] = 100,
) -> JSON:
    """Finds the matches of a pattern, with their groups, in linear time."""
    matches = []
    for match, _ in zip(_pattern(pattern).finditer(text), range(limit), strict=False):
        groups = {"groups": list(match.groups()), "named": match.groupdict()}
        matches.append({"match": match.group(0), "start": match.start(), "end": match.end(), **groups})
    return matches


def regex_replace(
    *,
    text: Annotated[str, Field(description="The text to change.")],
    pattern: Annotated[
        str, Field(max_length=10_000, description="A regular expression (RE2: no look-around, no back references).")
    ],
    replacement: Annotated[str, Field(max_length=10_000, description="The replacement; `\\1` is the first group.")],
) -> JSON:
    """Replaces every match of a pattern, in linear time."""
    import re2

    try:
        return _pattern(pattern).sub(replacement, text)
    except (re2.error, IndexError, UnicodeError) as error:
        raise InvalidArguments(replacement_message(replacement)) from error


def _pattern(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors, options.max_mem = False, MAX_PATTERN_MEMORY
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise InvalidArguments(pattern_message(error)) from error


def csv_parse(
    *,
    text: Annotated[str, Field(description="The CSV.")],
    delimiter: Annotated[str, Field(min_length=1, max_length=1, description="The character between two values.")] = ",",
    header: Annotated[bool, Field(description="Whether the first row has the names.")] = True,
) -> JSON:
    """Parses CSV to a list of objects (with a header) or of lists. Values stay text."""
    csv.field_size_limit(len(text) + 1)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InvalidArguments("this is no CSV: a quote is not closed, or text follows a closing quote") from error
    rows = [row for row in rows if row]
    if not header or not rows:
        return rows
    names, *lines = rows
    if len(set(names)) < len(names):
        raise InvalidArguments(
            f"the header has a column twice: {next(name for name in names if names.count(name) > 1)!r}"
        )
    for number, line in enumerate(lines, 2):
        if len(line) != len(names):
            raise InvalidArguments(f"row {number} has {len(line)} values, and the header has {len(names)}")
    return [dict(zip(names, line, strict=True)) for line in lines]


def math_evaluate(
    *,
    expression: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1000,
            description="A formula such as `round(price * 1.19, 2)`, with + - * / // % **, abs, ceil, exp, floor, log, log10, "
            "max, min, round, sqrt, sin, cos, tan, pi and e.",
        ),
    ],
    variables: Annotated[dict[str, float], Field(description="Numbers by name.")] = {},  # noqa: B006
) -> JSON:
    """Calculates a formula with numbers, operators and mathematical functions."""
    import simpleeval

    operators = {**simpleeval.DEFAULT_OPERATORS, ast.Pow: _power}
    calculator = simpleeval.SimpleEval(operators, _FUNCTIONS, {"pi": math.pi, "e": math.e, **variables})
    for node in (ast.Attribute, ast.Subscript, ast.JoinedStr):
        calculator.nodes.pop(node, None)
    try:
        result = calculator.eval(expression)
    except (simpleeval.InvalidExpression, SyntaxError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArguments(f"{expression[:80]!r} cannot be calculated: {_formula_fault(error)}") from error
    if not isinstance(result, int | float) or not math.isfinite(result):
        raise InvalidArguments(f"{expression[:80]!r} gives no number")
    if isinstance(result, int) and not INT_MIN <= result <= INT_MAX:
        raise InvalidArguments(f"{expression[:80]!r} gives a whole number beyond 64 bits")
    return result


def _formula_fault(error: Exception) -> str:
    import simpleeval

    match error:
        case simpleeval.NameNotDefined():
            return f"`{error.name}` is not defined"
        case simpleeval.FunctionNotDefined():
            return f"there is no function `{error.func_name}`"
        case ZeroDivisionError():
            return "it divides by zero"
        case simpleeval.NumberTooHigh() | OverflowError():
            return "a number is too large"
        case simpleeval.FeatureNotAvailable() | simpleeval.IterableTooLong() | AttributeError():
            return "it uses something that formulas do not have"
        case simpleeval.InvalidExpression() | SyntaxError():
            return "it is no formula"
        case TypeError():
            return "an operator or a function has arguments that do not fit"
    return "a function is not defined for its argument"


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "ceil": math.ceil, "cos": math.cos, "exp": math.exp, "floor": math.floor, "log": math.log, "log10": math.log10,
    "max": max, "min": min, "round": round, "sin": math.sin, "sqrt": math.sqrt, "tan": math.tan,
}  # fmt: skip


def _power(base: float, exponent: float) -> Any:
    """Return the power; use floats if the integer would be huge."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MAX_POWER:
        return float(base) ** exponent
    return base**exponent


ISOLATED: dict[str, Callable[..., JSON]] = {
    function.__name__: function for function in (json_query, regex_find, regex_replace, csv_parse, math_evaluate)
}


def run(name: str, arguments: dict[str, JSON]) -> dict[str, JSON]:
    """Run a tool in the isolated process.

    Returns:
        `{"value": result}` or `{"error": message}`.
    """
    try:
        return {"value": ISOLATED[name](**arguments)}
    except InvalidArguments as error:
        return {"error": str(error)}
    except RecursionError:
        return {"error": "this is nested too deeply"}
