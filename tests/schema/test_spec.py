"""`evaluateExpression`: expressions and templates, and the positions of their errors."""

import pytest

from resolvers.context import Context
from tests.schema_client import call

EVALUATE = """query($e: String!, $c: JSON!) {
  evaluateExpression(expression: $e, context: $c) { value type errors { code message line column } } }"""
SCOPE = {"a": 5, "b": 3, "zero": 0, "name": "Ada"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a - b", 2),
        ("{{ a }} - {{ b }}", 2),
        ("{{ a - b }}", 2),
        ("{{ a }} - {{ b }} euro", "5 - 3 euro"),
        ("{% if a > b %}more{% else %}less{% endif %}", "more"),
        ("{{ name }}{{ name }}", "AdaAda"),
        ("{{ name }}.png", "Ada.png"),
        ("{{ name }} (admin)", "Ada (admin)"),
        ("{{ name }} | length", 3),
        ("'{{ name }}'", "{{ name }}"),
        ("{'n': {{ a }}}", {"n": 5}),
    ],
)
async def test_text_that_parses_as_an_expression_is_evaluated_as_one(
    context: Context, text: str, value: object
) -> None:
    result = (await call(context, EVALUATE, e=text, c=SCOPE))["evaluateExpression"]
    assert (result["value"], result["errors"]) == (value, [])


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        # An expression that fails is an error, and is not rendered as text.
        ("{{ a }} / {{ zero }}", "unable to calculate 5 / 0", 1, 2),
        ("{{ a }} > {{ nope }}", "`nope` is undefined", 1, 14),
        ("Dear {{ name }},\n{{ nope.x }}", "undefined", 2, 4),
        ("a >", "unexpected end", 1, 4),
        ("{{ 1 + }}", "unexpected end", 1, 8),
        ("1 + )", "unexpected `)`", 1, 5),
        ("Dear {{ name", "unexpected end", 1, 9),
        ("hello world", "unexpected", 1, 7),
    ],
)
async def test_an_error_is_reported_with_its_position(
    context: Context, text: str, message: str, line: int | None, column: int | None
) -> None:
    result = (await call(context, EVALUATE, e=text, c=SCOPE))["evaluateExpression"]
    [error] = result["errors"]
    assert result["value"] is None and error["code"] == "EXPRESSION" and message in error["message"]
    assert line is None or (error["line"], error["column"]) == (line, column)


async def test_an_endless_computation_is_stopped(context: Context) -> None:
    endless = "{% for a in range(9000) %}{{ range(100000) | sum }}{% endfor %}"
    result = (await call(context, EVALUATE, e=endless, c={}))["evaluateExpression"]
    [error] = result["errors"]
    assert "takes more than" in error["message"]
