"""Only values of one type have an order: comparisons, filters and tests, and every place of them."""

import json
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.expressions.evaluator import ExpressionError, evaluate, render
from engine.types import JSON

VALUES: list[JSON] = [None, True, 7, 1.5, "7", "x", [], [1], {}, {"a": 1}]
JSON_TYPES: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "text", list: "list"}
SCOPE: dict[str, Any] = {
    "input": {
        "count": "7",
        "note": None,
        "mixed": [1, "a", 2],
        "rows": [{"n": 2, "in": {"n": 1}}, {"n": 1, "in": {"n": 3}}, {"n": 3, "in": {"n": 2}}],
        "ragged": [{"n": 2}, {}],
        "unlike": [{"n": 2}, {"n": "3"}],
        "numbers": [2, 1.5, 3],
        "names": ["b", "A", "a"],
        "empty": [],
    }
}


def has_order(left: JSON, right: JSON) -> bool:
    """The rule of the document: two numbers, two texts, two booleans, or two lists of such items."""
    kinds = JSON_TYPES.get(type(left)), JSON_TYPES.get(type(right))
    if None in kinds or kinds[0] != kinds[1]:
        return False
    if isinstance(left, list) and isinstance(right, list):
        return all(has_order(*pair) for pair in [p for p in zip(left, right, strict=False) if p[0] != p[1]][:1])
    return True


def outcome(text: str, scope: dict[str, Any], evaluate: Any = evaluate) -> JSON:
    """The value of an expression, or the class of its error."""
    try:
        return evaluate(text, scope)
    except ExpressionError as error:
        return error.__class__


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("left", VALUES, ids=json.dumps)
@pytest.mark.parametrize("right", VALUES, ids=json.dumps)
def test_values_of_different_types_are_never_ordered(operator: str, left: JSON, right: JSON) -> None:
    scope = {"input": {"a": left, "b": right}}
    expected: Any = ExpressionError
    if has_order(left, right):
        pair: Any = (left, right)
        expected = {
            "<": pair[0] < pair[1],
            "<=": pair[0] <= pair[1],
            ">": pair[0] > pair[1],
            ">=": pair[0] >= pair[1],
        }[operator]
    test = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}[operator]
    compared = f"input.a {operator} input.b"
    assert outcome(compared, scope) == expected
    assert outcome(f"{{{{ input.a }}}} {operator} {{{{ input.b }}}}", scope) == expected
    assert outcome(f"input.a is {test}(input.b)", scope) == expected
    assert outcome(f"[input.a] | select('{operator}', input.b) | list | length > 0", scope) == expected
    assert outcome(f"[input] | selectattr('a', '{test}', input.b) | list | length > 0", scope) == expected
    assert outcome(f"{{% if {compared} %}}yes{{% endif %}}", scope, render) == (
        expected if expected is ExpressionError else "yes" * expected
    )
    # A loop is evaluated in the isolation process.
    assert outcome(f"{{% for x in [1] if {compared} %}}yes{{% endfor %}}", scope, render) == (
        expected if expected is ExpressionError else "yes" * expected
    )


@pytest.mark.parametrize("left", VALUES, ids=json.dumps)
@pytest.mark.parametrize("right", VALUES, ids=json.dumps)
def test_a_filter_orders_only_values_of_one_type(left: JSON, right: JSON) -> None:
    scope = {"input": {"items": [left, right], "rows": [{"v": left}, {"v": right}], "pairs": {"a": left, "b": right}}}
    orders = has_order(left, right)
    for text in (
        "input.items | sort",
        "input.items | sort(reverse=true)",
        "input.items | min",
        "input.items | max",
        "[input.items] | map('sort')",
        "[input.items] | map('max')",
        "input.rows | sort(attribute='v')",
        "input.rows | max(attribute='v')",
        "input.rows | groupby('v')",
        "input.pairs | dictsort(by='value')",
        "{% for x in input.items | sort %}{% endfor %}",
    ):
        found = outcome(text, scope, render if "{%" in text else evaluate)
        assert (found is ExpressionError) == (not orders), text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("1 < 2 == 2", True),
        ("2 < 1 < nothing.at.all", False),
        ("1 < (2 if 1 < 2 < 3 else 0) < 3 < 4", True),
        ("1 < 2 < 3 and 3 > 2 > 1", True),
        ("not 1 < 2 < 3", False),
        ("1 < 2 in [2]", True),
        ("1 < 2 not in [2]", False),
        ("not 1 < 2", False),
        ("1 + 1 < 2 * 2 and 'a' ~ 'b' < 'b'", True),
        ("1 if 2 < 1 else 3 if 2 < 3 else 4", 3),
        ("{'a': 1 < 2, 'b': [2 < 1, (1 < 2)]}", {"a": True, "b": [False, True]}),
        ("input.numbers[0 if 1 < 2 else 1] < 3", True),
        ("(1 < 2) == (2 < 3)", True),
        ("input.count | int < 8", True),
        ("-1 < 0 and 0 > -1", True),
        ("input.numbers | length > 2", True),
        ("'x' < 'y' 'z'", True),
        ("1e1 < 20 and 1 <= 1.0", True),
        ("input.count is defined and '5' < input.count", True),
        ("input.numbers | sort", [1.5, 2, 3]),
        ("input.numbers | sort(reverse=true) | first", 3),
        ("input.names | sort", ["A", "a", "b"]),
        ("input.names | sort(case_sensitive=true)", ["A", "a", "b"]),
        ("input.names | unique", ["b", "A", "a"]),
        ("input.names | unique(case_sensitive=false)", ["b", "A"]),
        ("['b', 'a', 'B'] | sort", ["B", "a", "b"]),
        ("['b', 'a', 'B'] | sort(case_sensitive=false)", ["a", "b", "B"]),
        ("[{'k': 'a'}, {'k': 'A'}] | groupby('k') | map('first')", ["A", "a"]),
        ("{'a': 1, 'B': 2} | dictsort | map('first')", ["B", "a"]),
        ("[1, true, 1.0, '1', [1], [true], {'a': 1}, {'a': true}] | unique | length", 7),
        ("input.rows | sort(attribute='in.n') | map(attribute='n')", [2, 3, 1]),
        ("input.rows | max(attribute='n') | items", [["n", 3], ["in", {"n": 2}]]),
        ("(input.rows | min(attribute='in.n')).n", 2),
        ("input.ragged | groupby('n', default=0) | map('first')", [0, 2]),
        ("(input.rows | groupby('n'))[0].grouper", 1),
        ("(input.rows | groupby('n'))[0].list | length", 1),
        ("input.empty | max | default(0)", 0),
        ("input.empty | sort", []),
        ("[input.empty, [3]] | map('max')", [None, 3]),
        ("input.note | sort", []),
        ("'cab' | sort | join", "abc"),
        ("{'b': 1, 'A': 2} | dictsort", [["A", 2], ["b", 1]]),
        ("input.ragged[:1] | sort(attribute='n')", [{"n": 2}]),
    ],
)
def test_values_of_one_type_are_ordered_wherever_they_stand(text: str, value: JSON) -> None:
    assert evaluate(text, SCOPE) == value
    assert render(f"{{% set x %}}{{% endset %}}{{{{ ({text}) | tojson }}}}", SCOPE) == json.dumps(
        value, separators=(",", ":")
    )


def test_groups_can_be_unpacked_and_have_names() -> None:
    text = "{% for n, rows in input.rows | groupby('n') %}{{ n }}:{{ rows | length }} {% endfor %}"
    assert render(text, SCOPE) == "1:1 2:1 3:1 "
    text = "{% for group in input.rows | groupby('n') %}{{ group.grouper }}:{{ group.list | length }} {% endfor %}"
    assert render(text, SCOPE) == "1:1 2:1 3:1 "


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("input.count > 10", "`input.count` is a text and `10` is a number; only values of one type", 1),
        ("1 == 1 and input.note < 3", "`input.note` is null and `3` is a number; null has no order", 12),
        ("1 < input.nope", "`input.nope` is undefined", 5),
        ("1 < 2 < input.nope", "`input.nope` is undefined", 9),
        ("[1, [2]] < [1, ['a']]", "`[1, [2]]` has at one index a number", 1),
        ("input.mixed | sort", "`sort` has to order a number and a text", 15),
        ("input.mixed | sort | sort", "`sort` has to order a number and a text", 15),
        ("input.ragged | sort(attribute='n')", "`sort` has to order a number and a missing value", 16),
        ("input.nope | max", "`input.nope` is undefined", 1),
        ("input.empty | max", "`max` gives no value here", 15),
        ("input.unlike | sort(attribute='n, n')", "`sort` has to order a number and a text", 16),
        ("3 | sort", "`sort` needs a list, not a number", 5),
        ("input.names | sort(by='n')", "`sort` has the arguments `case_sensitive`, `reverse`, `attribute`", 15),
        ("input.mixed | dictsort", "`dictsort` needs an object, not a list", 15),
        ("input.count is gt(3)", "`gt` has to order a text and a number", 16),
        ("input.unlike | selectattr('n', 'gt', 1) | list", "`gt` has to order a text and a number", 33),
    ],
)
def test_an_error_names_the_types_and_has_its_place(text: str, message: str, column: int) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(text, SCOPE)
    assert message in error.value.message
    assert (error.value.line, error.value.column) == (1, column)


def test_the_place_of_an_error_after_a_comparison_is_that_of_the_text() -> None:
    with pytest.raises(ExpressionError) as error:
        render("é {{ 1 < 2 }}\n{% if 'e' < 'é' and input.nope.x %}{% endif %}", SCOPE)
    assert (error.value.line, error.value.column) == (2, 26)


@pytest.mark.parametrize("text", ["{'a': 2 ** 64 + 1} | tojson", "x{{ 2 ** 64 + 1 }}", "{{ [2 ** 64 + 1] | sort }}"])
def test_a_whole_number_beyond_64_bits_is_an_error_and_never_rounded(text: str) -> None:
    with pytest.raises(ExpressionError, match="whole number beyond 64 bits"):
        (render if "{{" in text else evaluate)(text, {})
    assert evaluate("2 ** 64 + 1 > 2 ** 64 and 2 ** 64 + 1 != 2 ** 64", {}) is True


numbers = st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -2.5])
operands = st.recursive(
    numbers.map(str),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner)
        | st.builds("({} if {} < {} else {})".format, inner, inner, inner, inner)
    ),
    max_leaves=6,
)
comparisons = st.builds(
    lambda first, rest: first + "".join(f" {operator} {operand}" for operator, operand in rest),
    operands,
    st.lists(st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), operands), min_size=1, max_size=3),
)
conditions = st.recursive(
    comparisons,
    lambda inner: (
        st.builds("{} {} {}".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("not {}".format, inner)
        | st.builds("({})".format, inner)
    ),
    max_leaves=5,
)


@given(conditions)
def test_an_expression_of_numbers_means_what_it_means_in_python(text: str) -> None:
    assert bool(evaluate(text, {})) == bool(eval(text))


json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
    max_leaves=6,
)


@given(st.lists(json_values, max_size=5))
def test_a_sorted_list_is_in_order_or_an_error(items: list[JSON]) -> None:
    found = outcome("input | sort(case_sensitive=true)", {"input": items})
    if found is ExpressionError:
        assert any(not has_order(*pair) for pair in combinations(items, 2))
        return
    assert isinstance(found, list)
    assert all(has_order(*pair) for pair in pairwise(found))
    assert sorted(map(repr, found)) == sorted(map(repr, items))
    assert [outcome("a <= b", {"a": left, "b": right}) for left, right in pairwise(found)] == [True] * len(found[1:])
