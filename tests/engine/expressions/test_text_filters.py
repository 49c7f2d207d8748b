"""Filters and methods for texts write every value by the rule of `{{ … }}`: null as nothing, 5.0 as 5."""

import pytest

from engine.expressions.evaluator import ExpressionError, evaluate, render
from engine.types import JSON

FILTERS = ["upper", "lower", "title", "capitalize", "trim", "string", "urlencode", "replace('N', 'n')"]
SCOPE: dict[str, JSON] = {"input": {"name": None, "rows": [None, 1]}}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("code", "text"), [("input.name", ""), ("none", ""), ("(10/2)", "5"), ("2.5 * 2", "5")])
def test_a_text_filter_writes_null_as_nothing_and_whole_numbers_without_a_fraction(
    name: str, code: str, text: str
) -> None:
    assert evaluate(f"({code}) | {name}", SCOPE) == text
    assert render(f"<{{{{ ({code}) | {name} }}}}>", SCOPE) == f"<{text}>"
    assert evaluate(f"[{code}] | map('{name.split('(')[0]}'{', 1, 1' if '(' in name else ''})", SCOPE) == [text]
    with pytest.raises(ExpressionError, match="undefined"):
        evaluate(f"input.nope | {name}", SCOPE)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("'{}{}'.format(10/2, none)", "5"),
        ("'{a:d}'.format(a=10/2)", "5"),
        ("'{}'.format(true)", "true"),
        ("', '.join([10/2, none, [1.0]])", "5, , [1]"),
        ("'x' | replace('x', 10/2)", "5"),
        ("'x' | replace('x', none)", ""),
        ("none | split", []),
        ("none | lines", []),
        ("'a b c' | split(' ', 1)", ["a", "b c"]),
        ("'ab' | split('')", ["", "a", "b", ""]),
        ("{'a': 10/2, 'b': none, 'c d': 'e f'} | urlencode", "a=5&c%20d=e%20f"),
        ('"two-words o\'neil (in)" | title', "Two-Words O'neil (In)"),
        ("'a\\nb\\r\\nc\\n' | lines", ["a", "b", "c"]),
        ("(10/2) is integer", True),
        ("1.0 is integer", True),
        ("true is integer", False),
        ("2.5 is integer", False),
        ("[1.0, 2, 2.5] | select('integer')", [1, 2]),
        ("none | list", []),
        ("none | map('upper')", []),
        ("none | select", []),
        ("'x' | int(default=3)", 3),
        ("'1F' | int(base=16)", 31),
        ("'4.7' | int", 4),
        ("'1e3' | float", 1000),
        ("[2.5, 2.5] | sum", 5),
        ("2.0 ** 63 > 9223372036854775806", True),
        ("2.0 ** 63", 2.0**63),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_value_has_the_same_form_wherever_it_is_written(code: str, value: JSON) -> None:
    found = evaluate(code, SCOPE)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("code", ["none | int", "none | float", "none | sum", "[none] | map('int') | list"])
def test_null_is_no_number(code: str) -> None:
    with pytest.raises(ExpressionError, match="not null"):
        evaluate(code, SCOPE)


@pytest.mark.parametrize("text", ["{{}}", "{{ }}", "{{--}}", "a {{ }} b", "{{ }} > 1"])
def test_an_empty_expression_is_an_error(text: str) -> None:
    with pytest.raises(ExpressionError, match="the expression is empty"):
        render(text, SCOPE)
    assert render("{% raw %}{{ }}{% endraw %}", SCOPE) == "{{ }}"


LIMIT: dict[str, JSON] = {"input": {"f": 2.0**63, "w": 2**63 - 1, "l": [2.0**63], "o": {"k": 2.0**63}}}
SHOWN = "9.223372036854776e+18"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("input.f", 2.0**63),
        ("[input.f, input.w]", [2.0**63, 2**63 - 1]),
        ("{'a': [input.f]}", {"a": [2.0**63]}),
        ("input.l", [2.0**63]),
        ("input.l | first", 2.0**63),
        ("input.l | sort", [2.0**63]),
        ("input.l | map('string') | list", [SHOWN]),
        ("dict(a=input.o.k)", {"a": 2.0**63}),
        ("[2.0 ** 63, input.w]", [2.0**63, 2**63 - 1]),
        ("input.f ~ ''", SHOWN),
        ("[input.f] | tojson", f"[{SHOWN}]"),
        ("[input.f, input.w] | join(' ')", f"{SHOWN} {2**63 - 1}"),
        ("x {{ input.f }} {{ [input.f] }} {{ input.w }}", f"x {SHOWN} [{SHOWN}] {2**63 - 1}"),
        ("{% for x in input.l %}{{ x }}{% endfor %}", SHOWN),
        ("input.f + 1", 2.0**63),
        ("input.f > input.w", True),
        ("input.w", 2**63 - 1),
        ("[input.w]", [2**63 - 1]),
        ("(10 / 2) is sameas 5", True),
        ("5 is sameas 5.0", True),
        ("1 is sameas true", False),
        ("[1, 2.0] is sameas [1, 2]", True),
        ("'1' is sameas 1", False),
        ("(10 / 2) is float", False),
        ("(5 / 2) is float", True),
        ("(10 / 2) is int", True),
        ("'{}'.format([1, none])", "[1,null]"),
        ("'{} {}'.format({'a': true, 'b': 10 / 2}, [[none]])", '{"a":true,"b":5} [[null]]'),
        ("'{0[0]} {1[a]}'.format([1, none], {'a': 2})", "1 2"),
        ("'{a}'.format(a=[none])", "[null]"),
    ],
)
def test_a_number_and_a_list_have_one_form_everywhere(code: str, value: JSON) -> None:
    found = render(code, LIMIT) if "{{" in code or "{%" in code else evaluate(code, LIMIT)
    assert found == value and repr(found) == repr(value)


@pytest.mark.parametrize(
    ("code", "place", "message"),
    [
        ("2 ** 63", (1, 1), "the value is a whole number beyond 64 bits: write it as a text"),
        ("  [2 ** 63]", (1, 3), "the value at [0] is a whole number beyond 64 bits"),
        ("x {{ 1 }} {{ 2 ** 63 }}", (1, 14), "the value is a whole number beyond 64 bits"),
        ("x {{ 1e400 }}", (1, 6), "the value is infinite, which JSON does not have"),
        ("[1e400] | tojson", (1, 1), "the value at [0] is infinite"),
        ("{'a': 1e308 * 10}", (1, 2), "the value at .a is infinite"),
        ("a {{ 1 }}\n{{ {1: 2} }}", (2, 5), "has the key 1, which is not a text: put it into quotes"),
        ("{[]: 1}", (1, 2), "a key of an object must be a text, not a list or an object"),
    ],
)
def test_a_result_that_is_no_json_is_an_error_with_its_place(code: str, place: tuple[int, int], message: str) -> None:
    with pytest.raises(ExpressionError) as failed:
        (render if "{{" in code else evaluate)(code, LIMIT)
    assert message in failed.value.message and (failed.value.line, failed.value.column) == place
