"""Lowering changes the meaning of an expression only where minijinja orders or loses a path."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minijinja import TemplateError

from engine.expressions import environment
from engine.expressions.analysis import analyze
from engine.expressions.evaluator import ExpressionError, evaluate
from engine.expressions.lexer import as_expression
from engine.expressions.lowering import Lowered, lower_expression, lower_template
from engine.expressions.views import to_plain, view

SCOPE: dict[str, Any] = {
    "n": 3,
    "m": -1.5,
    "yes": True,
    "text": "abc",
    "nothing": None,
    "list": [3, 1, 2],
    "rows": [{"v": 2, "in": {"w": 1}}, {"v": 1, "in": {"w": 5}}],
    "object": {"a": {"b": [1, {"c": 2}]}, "x-y": 4},
}
NAMES = list(SCOPE)
ATOMS = [*NAMES, "missing", "1", "2.5", "'a'", '"it\'s"', "true", "none", "[]", "{}", "[0, 1]"]
STEPS = [".a", ".b", ".c", ".v", "['x-y']", "[0]", "[-1]", "[1:]", "[:2]", "[::-1]", ".missing", ".a.b[1].c"]
FILTERS = [
    " | length", " | first", " | string", "|default(0)", " | d('x', true)", " | sort", " | unique", "|max", " | min", " | list",
    "| sort(reverse=true)", " | sort(attribute='v')", " | map(attribute='v') | list", " | groupby('v') | list", " | reverse",
    " | selectattr('v', 'gt', 1) | list", " | selectattr('in.w') | list",
    " | rejectattr('in.w', 'odd') | list", " | dictsort", " | join('-')",
]  # fmt: skip
TESTS = [
    " is defined",
    " is not defined",
    " is undefined",
    " is none",
    " is number",
    " is divisibleby 2",
    " is in(list)",
]
OPERATORS = ["<", "<=", ">", ">=", "==", "!=", "in", "not in", "+", "-", "*", "//", "and", "or"]

expressions = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: (
        st.builds("{}{}".format, inner, st.sampled_from(STEPS))
        | st.builds("({})".format, inner)
        | st.builds("({}){}".format, inner, st.sampled_from(STEPS))
        | st.builds("{}{}".format, inner, st.sampled_from(FILTERS))
        | st.builds("{}{}".format, inner, st.sampled_from(TESTS))
        | st.builds("{} {} {}".format, inner, st.sampled_from(OPERATORS), inner)
        | st.builds("not {}".format, inner)
        | st.builds("-{}".format, inner)
        | st.builds("{} if {} else {}".format, inner, inner, inner)
        | st.builds("[{}, {}]".format, inner, inner)
        | st.builds("{{'k': {}}}.k".format, inner)
        | st.builds("list[{}:{}]".format, inner, inner)
        | st.builds("{{{{ {} }}}}".format, inner)
    ),
    max_leaves=8,
)


def without_lowering(text: str) -> Any:
    """Evaluate an expression as it is written, with the same filters."""
    values = {name: view(value) for name, value in SCOPE.items()}
    return to_plain(environment._ENVIRONMENT.eval_expr(as_expression(text), **values))


@given(expressions)
def test_an_expression_keeps_its_value_unless_it_orders_unlike_values(text: str) -> None:
    if ":" in text and re.search(r"default|defined|d\(", text):
        return  # minijinja makes an empty list of a slice of null
    if re.search(r"\b(min|max)\b", text) and re.search(r"default|defined|d\(", text):
        return  # without its place, `max` gives null for an empty list
    if re.search(r"[<>]", text) and re.search(r":|reverse|\+|\*", text):
        return  # minijinja orders a slice, and other lists that are computed when read, after lists
    if re.search(r":[^:\]]*:\s*-", text):
        return  # minijinja takes the stop 0 of a negative step for none
    try:
        expected = without_lowering(text)
    except Exception:
        return  # minijinja or a filter refuses it
    try:
        found = evaluate(text, SCOPE)
    except ExpressionError as error:
        reasons = ("have an order", "has no order", "is undefined", "64 bits", "lack the value", "a missing value")
        assert any(reason in error.message for reason in reasons), (text, error.message)
        return
    assert found == expected, (text, lower_expression(text).source)


@given(expressions, st.sampled_from(["", "é {{ 1 < 2 }}\n", "{% if n < m %}"]))
def test_every_place_of_the_source_has_an_origin_in_the_text(text: str, before: str) -> None:
    template = before + "{{ " + text.replace("{{", "(").replace("}}", ")") + " }}" + "{% endif %}" * ("if n" in before)
    try:
        analyze(template)
    except TemplateError:
        return
    lowered: Lowered = lower_template(template)
    origins = [lowered.origin(offset) for offset in range(len(lowered.source))]
    assert all(0 <= origin <= len(template) for origin in origins)
    # Every character of the text is in the source, in its order, unless a slice was replaced.
    if lowered.source == template:
        assert origins == list(range(len(template)))
    for offset, origin in enumerate(origins):
        if lowered.source[offset] in "é%":
            assert template[origin] == lowered.source[offset]


@pytest.mark.parametrize(
    "text", ["a.b", "a == b", "a | first | length", "plain text", "{{ a }}", "{% for x in y %}{% endfor %}"]
)
def test_a_text_without_orders_and_defaults_is_not_changed(text: str) -> None:
    assert lower_template(text).source == lower_expression(text).source == text


@pytest.mark.parametrize("depth", [10, 60, 400, 5000])
def test_deep_nesting_is_evaluated_or_a_clear_error(depth: int) -> None:
    for text in ("(" * depth + "1 < 2" + ")" * depth, "[" * depth + "1 < 2" + "]" * depth, "not " * depth + "1 < 2"):
        try:
            evaluate(text, {})
        except ExpressionError as error:
            assert depth > 10 and any(word in error.message for word in ("recursion", "deep", "more than")), (
                error.message
            )


def test_long_chains_are_evaluated() -> None:
    assert evaluate(" and ".join(["1 < 2"] * 400), {}) is True
    assert evaluate(" < ".join(map(str, range(300))), {}) is True
    assert evaluate(" if false else ".join(["1 < 2"] * 300), {}) is True
    assert evaluate("[1]" + " | sort" * 300, {}) == [1]
