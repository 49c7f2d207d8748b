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
        ("Dear {{ name }}", "Dear Ada"),
        ("Dear {{ name }},", "Dear Ada,"),
        ("{{ a }}/{{ b }}.pdf", "5/3.pdf"),
        ("n={{ a }}", "n=5"),
        ("'a' {{ name }}", "'a' Ada"),
        ("(x) {{ name }}", "(x) Ada"),
        ("not {{ zero }}", True),
        ("1 if {{ zero }} else {{ b }}", 3),
        ("a is divisibleby {{ a }}", True),
        ("b in [{{ b }}]", True),
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
        ("{{ a }} / {{ zero }}", "cannot be calculated: it divides by 0", 1, 2),
        ("{{ a }} > {{ nope }}", "`nope` is undefined", 1, 14),
        ("Dear {{ name }},\n{{ nope.x }}", "undefined", 2, 4),
        ("a >", "unexpected end", 1, 4),
        ("{{ 1 + }}", "unexpected end", 1, 8),
        ("1 + )", "unexpected `)`", 1, 5),
        ("Dear {{ name", "`{{` has no end", 1, 6),
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


BY_KIND = """query($e: String!, $c: JSON!, $k: ExpressionKind) {
  evaluateExpression(expression: $e, context: $c, kind: $k) { value type errors { code message line column } } }"""


async def value_of(context: Context, text: str, kind: str | None, scope: object) -> object:
    result = (await call(context, BY_KIND, e=text, k=kind, c=scope))["evaluateExpression"]
    assert result["errors"] == []
    return result["value"]


@pytest.mark.parametrize(
    ("text", "rendered", "expression", "condition"),
    [
        ("{{ a }}/{{ b }}", "5/3", 5 / 3, True),
        ("{{ a }} - {{ b }}", "5 - 3", 2, True),
        ("{{ a }}", 5, 5, True),
        ("{{ zero }}", 0, 0, False),
        ("a > b", "a > b", True, True),
        ("not {{ name }}", "not Ada", False, False),
        ("'{{ name }}'", "'Ada'", "{{ name }}", True),
        ("input.n", "input.n", 1, True),
    ],
)
async def test_the_kind_says_how_a_text_is_evaluated(
    context: Context, text: str, rendered: object, expression: object, condition: object
) -> None:
    scope = {**SCOPE, "input": {"n": 1}}
    assert await value_of(context, text, "TEMPLATE", scope) == rendered
    assert await value_of(context, text, "EXPRESSION", scope) == expression
    assert await value_of(context, text, "CONDITION", scope) is condition


@pytest.mark.parametrize("kind", ["EXPRESSION", "CONDITION"])
async def test_a_text_that_is_not_of_its_kind_is_an_error(context: Context, kind: str) -> None:
    result = (await call(context, BY_KIND, e="{{ name }}, hello {{ a }}", k=kind, c=SCOPE))["evaluateExpression"]
    assert (result["value"], result["errors"][0]["line"]) == (None, 1)


SAMPLE = {
    "input": {"n": 1},
    "item": "x",
    "index": 0,
    "nodes": {"a": {"output": 2}, "b-c": {"output": None, "status": "SKIPPED", "last_output": 3}},
}
NAMES = [
    ("input.n", 1),
    ("a.output", 2),
    ("a.status", "COMPLETED"),
    ("a.last_output", 2),
    ("nodes.a.output", 2),
    ("nodes['b-c'].output", None),
    ("nodes['b-c'].status", "SKIPPED"),
    ("nodes['b-c'].last_output", 3),
    ("item", "x"),
    ("index", 0),
    ("run.id is defined", True),
]
TEST_NODE = (
    """mutation($input: TestNodeInput!) { testNode(input: $input) { output error { message } errors { detail } } }"""
)


@pytest.mark.parametrize(("text", "value"), NAMES)
async def test_a_sample_has_the_names_that_a_template_sees_in_a_run(context: Context, text: str, value: object) -> None:
    assert await value_of(context, text, "EXPRESSION", SAMPLE) == value
    test = {"type": "transform", "config": {"output": f"{{{{ {text} }}}}"}, "context": SAMPLE}
    assert (await call(context, TEST_NODE, input=test))["testNode"] == {"output": value, "error": None, "errors": []}


async def test_a_context_of_plain_names_is_as_before(context: Context) -> None:
    assert await value_of(context, "nodes[0] + a", None, {"nodes": [1], "a": 2}) == 3
    assert await value_of(context, "nodes.x.y", None, {"nodes": {"x": {"y": 4}}}) == 4
    assert await value_of(context, "run", None, {"run": 5}) == 5
