"""Tests of templates and expressions: their results, their errors, and that they change no data."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.expressions.evaluator import ExpressionError, check, evaluate, references, render, truthy

SCOPE: dict[str, Any] = {
    "input": {"value": 12, "name": "Ann", "items": [3, 1, 2], "nothing": None, "rows": [{"n": 1}, {"n": 2}]},
    "a": {"output": {"x": 1.5, "done": True}, "status": "COMPLETED"},
    "inc": {"output": None, "status": "IDLE"},
    "name": {"output": "a node that is called name", "status": "COMPLETED"},
    "nodes": {"b-c": {"output": 5, "status": "COMPLETED"}},
    "run": {"id": "run_1"},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("input.value > 10", True),
        ("{{input.value}} > 10", True),
        ("{{ input.value > 10 }}", True),
        ("{{input.value}} > 10 and not {{ a.output.done }}", False),
        ("{{- input.value -}}", 12),
        ("input", SCOPE["input"]),
        ("input.nothing", None),
        ("input.items", [3, 1, 2]),
        ("input.items | sort | first", 1),
        ("input.rows | map(attribute='n') | sum", 3),
        ("input.missing | default('none')", "none"),
        ("(inc.output or {'n': 0}).n", 0),
        ("{'a': {'b': input.value}}", {"a": {"b": 12}}),
        ("nodes['b-c'].output", 5),
        ("name.output", "a node that is called name"),
        ("'}}' ~ '{{'", "}}{{"),
        ("(1, input.value)", [1, 12]),
        ("input.name.upper()", "ANN"),
        ("a.output.items()", [["x", 1.5], ["done", True]]),
        ("'\ufeff{\"a\": 1}' | fromjson", {"a": 1}),
        ("input | tojson", '{"value":12,"name":"Ann","items":[3,1,2],"nothing":null,"rows":[{"n":1},{"n":2}]}'),
        ("1 if input.value > 100", None),
    ],
)
def test_an_expression_gives_a_json_value(expression: str, value: Any) -> None:
    assert evaluate(expression, SCOPE) == value


@pytest.mark.parametrize(
    ("value", "rendered"),
    [
        ("Hello {{ input.name }}", "Hello Ann"),
        ("{{ input.value }}", 12),
        (" {{ input.value }}", " 12"),
        ("{{ input.items }}{{ input.nothing }}", "[3,1,2]"),
        ("{{ a.output }}!", '{"x":1.5,"done":true}!'),
        ("{% for row in input.rows %}{{ row.n }};{% endfor %}", "1;2;"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("{# {{ not code }} #}x", "x"),
        ("{{ input.name }}\n", "Ann\n"),
        ("<{{ '<&>' }}>", "<<&>>"),
        ({"k{{ 1 }}": ["{{ input.value }}", 1, None]}, {"k{{ 1 }}": [12, 1, None]}),
    ],
)
def test_a_template_is_rendered_and_one_expression_keeps_its_type(value: Any, rendered: Any) -> None:
    assert render(value, SCOPE) == rendered


def test_a_rendered_value_is_never_rendered_again() -> None:
    scope = {"input": {"text": "{{ run.id }} > 1", "quote": "' or true or '"}}
    assert render("{{ input.text }}", scope) == "{{ run.id }} > 1"
    assert render("say {{ input.text }}", scope) == "say {{ run.id }} > 1"
    assert truthy("{{input.quote}} == 'x'", scope) is False


@pytest.mark.parametrize(
    ("expression", "message", "line", "column"),
    [
        ("nope > 1", "`nope` is undefined", 1, 1),
        ("input.missing", "`input.missing` is undefined", 1, 1),
        ("1 < input.missing", "`input.missing` is undefined", 1, 5),
        ("1 +", "end of expression", 1, 4),
        ("{{ input.value }} >", "end of expression", 1, 20),
        ("input.value == 1 &&", "unexpected character", 1, 18),
        ("\n  input.name | nofilter", "there is no filter `nofilter`", 2, 16),
        ("10 ** 30", "beyond 64 bits", None, None),
        ("1e400", "infinite", 1, 1),
        ("{1: 2}", "key 1", None, None),
        ("input.get", "`input.get` is undefined", 1, 1),
        ("input.items.append(1)", "no method `append`", None, None),
        ("debug()", "there is no function `debug`", 1, 1),
        ("self", "undefined", 1, 1),
    ],
)
def test_an_error_has_its_line_and_column(expression: str, message: str, line: int | None, column: int | None) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(expression, SCOPE)
    assert message in str(error.value)
    assert column is None or (error.value.line, error.value.column) == (line, column)


def test_a_column_counts_characters_and_not_bytes() -> None:
    with pytest.raises(ExpressionError) as error:
        render("é\né {{ input.missing }}", SCOPE)
    assert (error.value.line, error.value.column) == (2, 6)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(50000) %}{% for j in range(50000) %}x{% endfor %}{% endfor %}",
        "{% for i in range(30000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ range(100000000) }}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    ],
)
def test_a_template_without_an_end_is_stopped(template: str) -> None:
    with pytest.raises(ExpressionError):
        render(template, SCOPE)


@pytest.mark.parametrize("call", ["append(9)", "clear()", "pop()", "sort()", "__class__", "__value__"])
def test_a_template_cannot_change_its_data_or_reach_python_objects(call: str) -> None:
    before = copy.deepcopy(SCOPE)
    with pytest.raises(ExpressionError):
        evaluate(f"input.items.{call}", SCOPE)
    assert before == SCOPE


def test_check_finds_problems_before_a_run() -> None:
    assert check("plain { text }") == []
    assert check("a {{ x | nofilter }}") == [
        ("there is no filter `nofilter`; docs/expressions.md lists the filters", 1, 10)
    ]
    no_test = "there is no test `notest`; docs/expressions.md lists the tests"
    assert check("a {{ x is notest }}{{ x.is.y }}") == [(no_test, 1, 11)]
    assert check("{% if x is not\nnotest(1) or x is not in y %}{% endif %}") == [(no_test, 2, 1)]
    assert check("{% include 'x' %}") == [("`{% include %}` is not available", 1, 4)]
    assert check("a > 1", expression=True) == []
    [(message, line, column)] = check("{{ a..b }}")
    assert "unexpected `.`" in message and (line, column) == (1, 6)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{{ a.output }} {{ nodes['x-y'].output }} {{ nodes.z.output }}", {"a", "x-y", "z"}),
        ("{% for row in list.output %}{{ row.n }}{{ loop.index }}{% endfor %}", {"list"}),
        ("{{a.output}} > b.output", {"a", "b"}),
        ("{{ nodes | length }}", {"nodes"}),
        ("a.b == 'c.output'", {"a"}),
        ("def process(x):\n    return x", set()),
        ("plain words", set()),
    ],
)
def test_references_are_the_names_that_a_text_does_not_define(text: str, names: set[str]) -> None:
    assert references(text) == names


@given(st.text(st.sampled_from("{}%# ab.'\"()[]|-+=<>12\n,:~"), max_size=40), st.booleans())
def test_no_text_raises_anything_but_an_expression_error(text: str, expression: bool) -> None:
    check(text, expression=expression)
    references(text)
    try:
        evaluate(text, SCOPE) if expression else render(text, SCOPE)
    except ExpressionError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("input.items[:2]", [1, 2]),
        ("input.items[low:input.high]", [2]),
        ("input.text[::2][1:]", "ce"),
        ("{'a': input.items[ 1 : ]}", {"a": [2, 3]}),
        ("{{ input.text[:1] }} of {% for x in input.items[1:] %}{{ input.text[x:] }} {% endfor %}", "a of cdef def "),
    ],
)
def test_the_names_inside_a_slice_are_found(text: str, value: object) -> None:
    scope = {"input": {"items": [1, 2, 3], "text": "abcdef", "high": 2}, "low": 1}
    assert (render if "{%" in text else evaluate)(text, scope) == value


BOUNDS = ["", *range(-7, 8)]


@pytest.mark.parametrize("value", [[1, 2, 3, 4, 5], "abc\u00e9\U0001f600f", [], ""])
@pytest.mark.parametrize("step", ["", ":", *(f":{step}" for step in (-3, -2, -1, 1, 2, 9))])
def test_a_slice_is_what_it_is_in_python(value: list[int] | str, step: str) -> None:
    slices = [f"v[{start}:{stop}{step}]" for start in BOUNDS for stop in BOUNDS]
    assert evaluate(f"[{', '.join(slices)}]", {"v": value}) == [eval(one, {"v": value}) for one in slices]


def test_a_slice_with_a_step_of_null_is_empty_and_of_a_missing_value_an_error() -> None:
    assert evaluate("input.n[::-1]", {"input": {"n": None}}) == []
    with pytest.raises(ExpressionError, match=r"`input\.nope` is undefined"):
        evaluate("input.nope[::-1]", {"input": {}})


def test_a_wrong_slice_is_an_error_with_its_place() -> None:
    [(message, line, column)] = check("input[1:2:3:4]", expression=True)
    assert "unexpected" in message and (line, column) == (1, 12)


@pytest.mark.parametrize(
    "text",
    [
        "5 | fromjson",
        "'[' | fromjson",
        "'{}' | fromjson(1)",
        "[5] | datetime_shift",
        "'2030-01-01' | datetime_shift(days='x')",
        "'2030-01-01' | datetime_shift(days=1e12)",
        "'2030-01-01' | datetime_format",
        "'2030-01-01' | datetime_format('%d' * 200)",
        "'2030-01-01' | datetime_difference(none)",
    ],
)
def test_an_error_of_our_filters_has_the_place_of_the_filter(text: str) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(text, {})
    assert (error.value.line, error.value.column) == (1, text.index("|") + 3)


def test_json_parsed_from_a_text_has_the_same_limits_as_other_values() -> None:
    assert evaluate("input | fromjson | sum", {"input": str(list(range(50_000)))}) == sum(range(50_000))
    with pytest.raises(ExpressionError, match="nested more than"):
        evaluate("input | fromjson", {"input": "[" * 500 + "]" * 500})
