"""Values that do not exist: in every form of access, with every name, and before `default`."""

from typing import Any

import pytest

from engine.expressions.evaluator import ExpressionError, evaluate, render

NAMES = ["items", "keys", "values", "get", "count", "index", "pop", "copy", "update", "append", "sort", "grouper", "x"]
PRESENT = dict.fromkeys(NAMES, 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [
        "input",
        "('{}' | fromjson)",
        "(input.list | sort)",
        "input.list",
        "input.objects[0]",
        "input.objects | first",
        "(input.objects | sort(attribute='n') | first)",
        "('2030-01-01' | datetime_difference('2030-01-01'))",
        "{}",
        "[]",
    ],
)
def test_a_missing_key_with_the_name_of_a_method_is_missing(value: str, name: str) -> None:
    scope = {"input": {"list": [1], "objects": [{"n": 1}]}}
    brackets = f"({value})"
    for access in (f"{brackets}.{name}", f"{brackets}['{name}']"):
        assert evaluate(f"{access} | default('none')", scope) == "none"
        assert evaluate(f"{access} is defined", scope) is False
        assert render(f"{{% if {access} is not defined %}}no{{% endif %}}", scope) == "no"
        for use in (access, f"not {access}", f"{access} or 1", f"{access} == 1", f"{access} | length"):
            with pytest.raises(ExpressionError):
                evaluate(use, scope)
    assert evaluate(f"'{name}' in {brackets}", scope) is False
    assert evaluate(f"[{brackets}] | selectattr('{name}', 'defined') | list", scope) == []
    assert evaluate(f"[{brackets}] | map(attribute='{name}', default=0)", scope) == [0]


@pytest.mark.parametrize("name", NAMES)
def test_a_key_with_the_name_of_a_method_is_its_value(name: str) -> None:
    scope = {"input": PRESENT}
    for text in (f"input.{name}", f"input['{name}']", f"[input] | map(attribute='{name}') | first"):
        assert evaluate(text, scope) == 1
    assert evaluate(f"'{name}' in input", scope) is True


def test_the_methods_of_objects_and_lists_can_be_called_after_a_missing_key() -> None:
    scope = {"input": {"a": 1, "list": ["x", "y", "x"]}}
    text = "[input.items | default(0), input.items() | length, 'keys' in input, input.keys(), input.get('get', 2)]"
    assert evaluate(text, scope) == [0, 2, False, ["a", "list"], 2]
    assert evaluate("input.list.count('x') + input.list.index('y')", scope) == 3
    assert evaluate("input.values()[1][0]", scope) == "x"


SCOPE: dict[str, Any] = {
    "input": {
        "user": {},
        "null": None,
        "deep": {"a": {"b": {"c": {"d": 1}}}},
        "list": [{"name": "Ann"}],
        "text": "abc",
    },
    "nodes": {"x-y": {"output": None}},
}


@pytest.mark.parametrize(
    "path",
    [
        "input.user.address.city",
        "input.user.a.b.c.d.e.f",
        "input.null.a",
        "input.null.a.b.c",
        "input['user']['address'].city",
        "input.user.address['city'][0].name",
        "input.list[5].name",
        "input.list[0].nope.first",
        "input.list.first.name",
        "input.user.items.x",
        "nodes['x-y'].output.total",
        "nodes['x-y'].output.rows[0].total",
        "nothing.a.b",
        "(input.user.address).city",
        "((input.user).address.city)",
        "(input.null or input.user).address.city",
        "(input.user.address | default(none)).city",
        "input.user.address[:2]",
        "input.null[1:]",
        "input.user.address.rows[0:2][0].name",
        "input.deep.a.b.x.d",
        "input.text.a.b",
        "input.user.get('address').city",
    ],
)
def test_a_default_holds_for_a_path_whose_parents_are_missing_or_null(path: str) -> None:
    assert evaluate(f"{path} | default('?')", SCOPE) == "?"
    assert evaluate(f"{path} | d('?') | upper", SCOPE) == "?"
    assert render(f"city: {{{{ {path} | default('?') }}}}", SCOPE) == "city: ?"
    assert render(f"{{% for x in {path} | default([1]) %}}{{{{ x }}}}{{% endfor %}}", SCOPE) == "1"
    assert evaluate(f"{path} is defined", SCOPE) is False
    assert evaluate(f"{path} is undefined and not {path} is defined and {path} is not defined", SCOPE) is True
    assert evaluate(f"[{path} | default(1) < 2, {{'a': {path} | default(3)}}]", SCOPE) == [True, {"a": 3}]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("input.deep.a.b.c.d", 1),
        ("input.deep['a'].b['c'].d", 1),
        ("(input.deep.a).b.c.d", 1),
        ("input.list[0].name", "Ann"),
        ("input.list[0].name[1:]", "nn"),
        ("input.list[-1:][0].name", "Ann"),
        ("input.text[::-1]", "cba"),
        ("input.text.upper()[1:2]", "B"),
        ("input.deep.get('a').b.c.d", 1),
        ("input.list.0.name", "Ann"),
        ("-input.deep.a.b.c.d", -1),
    ],
)
def test_a_path_that_exists_keeps_its_value_before_a_default(path: str, value: Any) -> None:
    assert evaluate(f"{path} | default('?')", SCOPE) == value
    assert evaluate(f"{path} is defined", SCOPE) is True


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("input.user.address.city", "`input.user.address` is undefined", 11),
        ("input.user.address.city | upper | default('?')", "`input.user.address` is undefined", 11),
        ("input.user.address.city ~ (input.user.name | default(''))", "`input.user.address` is undefined", 11),
        ("(input.user.a.b | default(1)) + input.user.x.y", "`input.user.x` is undefined", 43),
        ("input.user.a[input.user.b.c] | default(1)", "`input.user.b` is undefined", 24),
        ("input.user.name.upper() | default('?')", "a missing value has no method `upper`", None),
    ],
)
def test_a_missing_parent_is_an_error_everywhere_else(text: str, message: str, column: int | None) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(text, SCOPE)
    assert message in error.value.message
    assert column is None or (error.value.line, error.value.column) == (1, column)


def test_a_very_long_path_before_a_default_is_evaluated() -> None:
    value: Any = 1
    for _ in range(60):
        value = {"a": value}
    assert evaluate("input" + ".a" * 60 + " | default('?')", {"input": value}) == 1


ROWS = {
    "rows": [{"n": 1}, {"n": 2, "in": None}, {"n": 3, "in": {"w": 0}}, {"n": 4, "in": {"w": 5, "list": [{"x": 1}]}}]
}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("rows | selectattr('in.w', 'defined')", [3, 4]),
        ("rows | selectattr('in.w', 'undefined')", [1, 2]),
        ("rows | rejectattr('in.w', 'defined')", [1, 2]),
        ("rows | selectattr('in.w')", [4]),
        ('rows | rejectattr("in.w")', [1, 2, 3]),
        ("rows | selectattr('in.w', 'defined') | selectattr('in.w', 'gt', 1)", [4]),
        ("rows | selectattr('in.w', 'eq', 0)", [3]),
        ("rows | selectattr('in.list.0.x', 'defined')", [4]),
        ("rows | selectattr('in.w', 'defined') | sort(attribute='in.w', reverse=true)", [4, 3]),
        ("(rows | sort(attribute='n')) | selectattr('in', 'defined') | selectattr('in.w')", [4]),
        ("[rows[3], {'n': 9}] | rejectattr('in.w')", [9]),
        ("rows | selectattr('n', 'gt', 3)", [4]),
    ],
)
def test_an_item_without_the_path_is_an_item_without_the_value(text: str, numbers: list[int]) -> None:
    assert evaluate(f"{text} | map(attribute='n') | list", ROWS) == numbers
    template = f"{{% for row in {text} %}}{{{{ row.n }}}},{{% endfor %}}"
    assert render(template, ROWS) == "".join(f"{number}," for number in numbers)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("rows | selectattr('in.w', 'gt', 1)", "`gt` has to order null and a number", 28),
        ("nope | selectattr('in.w')", "`nope` is undefined", 1),
        ("3 | selectattr('in.w')", "`selectattr` needs a list, not a number", 5),
        ("rows | selectattr('in.w', 'nope')", "there is no test `nope`", None),
    ],
)
def test_an_error_of_a_selection_has_its_place(text: str, message: str, column: int | None) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(text, ROWS)
    assert message in error.value.message
    assert column is None or (error.value.line, error.value.column) == (1, column)


ITEMS: dict[str, Any] = {"input": {"a": {"b": 1, "n": None}, "list": [1], "empty": []}}
MISSING_ITEMS = [
    ("[§]", "input.x"),
    ("[1, §]", "input.a.x"),
    ("{'k': §}", "input.x"),
    ("{'é': 1, 'k': {'l': [§]}}", "input.list[5]"),
    ("{§: 1}", "input.x"),
    ("(1, §) | list", "input.x"),
    ("(§,) | list", "input['x']"),
    ("dict(a=§)", "input.x"),
    ("{'k': §} | tojson", "input.a.n.x"),
    ("[§] | length", "input.x"),
    ("[[§]] | first | first", "input.x"),
    ("1 if [§] else 2", "input.x"),
    ("[§]", "input.empty | first"),
    ("[§]", "input.empty | max"),
    ("[§]", "input.a.b if false"),
    ("[§]", "input.a.n or input.x"),
    ("[§]", "input.x | default(input.y)"),
]


@pytest.mark.parametrize(("expression", "item"), MISSING_ITEMS)
def test_a_missing_item_of_a_list_or_an_object_is_an_error(expression: str, item: str) -> None:
    text = expression.replace("§", item)
    with pytest.raises(ExpressionError) as failed:
        evaluate(text, ITEMS)
    assert f"`{item}` is undefined" in str(failed.value)
    assert (failed.value.line, failed.value.column) == (1, text.index(item) + 1)
    for template in ("Dear {{ § }}", "{% set z = § %}ok", "{% if (§) %}{% endif %}"):
        with pytest.raises(ExpressionError, match="is undefined"):
            render(template.replace("§", text), ITEMS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[input.a.n, input.a.b, none]", [None, 1, None]),
        ("[input.x | default(none), input.list[5] | d(2)]", [None, 2]),
        ("{'k': input.a.get('x'), 'a': input.a}", {"k": None, "a": {"b": 1, "n": None}}),
        ("[input.list[:1], input.list[5:], -input.list[0]]", [[1], [], -1]),
        ("[input.a.b or input.x, 2 if true else input.x]", [1, 2]),
        ("[input.x is defined, 'x' in input]", [False, False]),
        ("[{}, {'n': 2}] | map(attribute='n')", [None, 2]),
        ("[{}, {'n': 2}] | map(attribute='n') | select('defined') | list", [2]),
    ],
)
def test_items_that_exist_keep_their_values(text: str, value: Any) -> None:
    assert evaluate(text, ITEMS) == value
