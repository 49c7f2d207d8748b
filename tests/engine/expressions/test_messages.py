"""The messages of failed expressions have own sentences, without the types and terms of a library."""

import re

import pytest

from engine.expressions.evaluator import ExpressionError, evaluate, render
from engine.types import JSON

SCOPE: dict[str, JSON] = {"input": {"a": 1, "s": "x", "l": [1], "n": None, "o": {"k": 1}}}
FOREIGN = re.compile(
    r"\b(i32|i64|isize|usize|literal|sequence|mapping|variable block|end of block|operator on|containment"
    r"|iterable|unsupported types|to_json_text|<expression>|<string>|minijinja|invalid operation|named|is unknown|unable)\b"
)
EXPRESSIONS: dict[str, str] = {
    "input.a + input.s": "`+` cannot combine a number and a text",
    "input.l + 1": "`+` cannot combine a list and a number",
    "-input.s": "`input.s` is no number, so `-` cannot be calculated; if it is null, write `-(input.s or 0)`",
    "-true": "`true` is no number, so `-` cannot be calculated",
    "-null": "`null` is undefined",
    "none | max": "`max` gives no value here; if it may be missing",
    "[] | min": "`min` gives no value here; if it may be missing",
    "none | fromjson": "`fromjson` needs a text, not null",
    "input.l | fromjson": "`fromjson` needs a text, not a list; an object or a list needs no `fromjson`",
    "none | datetime_shift(days=1)": "a timestamp is a text, such as '2030-01-31T09:00:00Z' (RFC 3339), not null",
    "'2030-01-31' | datetime_shift(days=none)": "`days` must be a number, not null",
    "'2030-01-31' | datetime_shift(day=1)": "`datetime_shift` has the arguments `days`, `hours`, `minutes`, `seconds`",
    "'2030-01-31' | datetime_format": "`datetime_format` has the arguments `format` (needed), `timezone`",
    "'2030-01-31' | datetime_format('%Y', 1)": "`timezone` must be a text, not a number",
    "{1: 'x'}": "the value has the key 1, which is not a text: put it into quotes",
    "{none: 'x'}": "the value has the key null, which is not a text: put it into quotes",
    "input.l | tojson(indent=9)": "`indent` must be a whole number from 0 to 4",
    "{{ input.a": "`{{` has no end: write `}}` after it",
    "{{input.a}}{{input.s}}": "there is a value directly before `{{`: an expression needs an operator there, such as `~`",
    "x{{ input.a }}": "there is a value directly before `{{`",
    "Dear {{ input.a }}, you": "there is a value directly before `{{`",
    "input.s | uper": "there is no filter `uper`; did you mean `upper`?",
    "input.a is evn": "there is no test `evn`; did you mean `even`?",
    "upper(input.s)": "there is no function `upper`: write `x | upper`",
    "[1] | chain(2)": "`chain` needs lists, not a number",
    "range": "`range` is a function: write `range(…)`",
    "input.o.append(1)": "an object has no method `append`",
    "2 | reverse": "`reverse` needs a list or a text, not a number",
    "2 | count": "`count` needs a text, a list or an object, not a number",
    "'\\x'": "a text has an unknown escape",
    "input.a in input.a": "`in` needs a list, an object or a text on its right side",
    "input.s | int": "the text is no number",
    "'abc' | float": "the text is no number",
    "input.o | sum": "`sum` needs a list, not an object",
    "input.a | first": "`first` needs a list or a text",
    "input.a | join": "`join` needs a list or a text, not a number",
    "input.s | replace('a')": "`replace` needs two texts: the old one and the new one",
    "input.s | nope": "there is no filter `nope`",
    "input.s is nope": "there is no test `nope`",
    "nope(1)": "there is no function `nope`",
    "input.s.foo()": "a text has no method `foo`",
    "null": "`null` is undefined: null is written `none`",
    "input.a is null": "there is no test `null`: write `is none`",
    "'' | int": "the text is empty, so it is no number",
    "none | round": "`round` needs a number",
    "range(100001)": "`range` gives at most 100,000 items",
    "[] | first": "`first` gives no value here; if it may be missing",
    "[] | float": "`float` needs a number or a text, not a list",
    "1 / 0": "`1 / 0` cannot be calculated: it divides by 0",
    "input.a / (input.a - 1)": "`input.a / (input.a - 1)` cannot be calculated: it divides by 0",
    "2 ** 200": "`2 ** 200` cannot be calculated: the result is too large",
    "input.a | round('x')": "an argument of `round` must be a whole number, not a text",
    "input.l | map('nope')": "there is no filter `nope`",
    "input.l | selectattr('a', 'nope')": "there is no test `nope`",
    "range(1, 2, 3, 4)": "`range` has too many arguments",
    "input.a | items": "`items` needs an object",
    "input.n | length": "`length` needs a text, a list or an object, not null",
    "'a' * -1": "a text can only be multiplied by a whole number from 0 on",
    "input.s[1:2:0]": "the step of a slice cannot be 0",
    "input.a[1:]": "a number cannot be sliced",
    "input.s | abs": "`abs` needs a number",
    "input.l | tojson(x=1)": "`tojson` has the arguments `indent`",
    "input.a if": "unexpected end of expression",
    "[1, 2": "unexpected",
    "'abc": "unexpected end of string",
}
TEMPLATES: dict[str, str] = {
    "{% for x in input.a %}{% endfor %}": "a number is no list or object",
    "{% for x, y in input.l %}{% endfor %}": "is no list or object",
    "{% set a, b = input.l %}": "the list has 1 items, and there are 2 names for them",
    "{% foo %}": "there is no statement `foo` here",
    "{% if %}": "unexpected `%}`",
    "{% if true %}x": "`{% if %}` has no end: write `{% endif %}` after it",
    "{% for x in [1] %}{% if x %}{% endfor %}": "`{% if %}` has no end: write `{% endif %}` after it",
    "{% set x %}a": "`{% set %}` has no end: write `{% endset %}` after it",
    "{% raw %}a": "`{% raw %}` has no end: write `{% endraw %}` after it",
    "{% do input.a %}": "`{% do %}` is not available",
    "{% macro x %}": "`{% macro %}` is not available",
    "{% break %}": "`{% break %}` must be between `{% for … %}` and `{% endfor %}`",
    "{% with a %}{% endwith %}": "unexpected `%}`, expected `=`",
    "{% for x %}{% endfor %}": "unexpected `%}`, expected `in`",
    "{% set a.b = 1 %}": "`{% set %}` needs a name without a dot, as in `{% set total = 0 %}`",
    "{% set a, b = 1 %}": "the value is no list or object, so it cannot be divided among several names",
    "{% filter %}x{% endfilter %}": "`{% filter %}` needs the name of a filter",
    "{%- filter uper -%}x{% endfilter %}": "there is no filter `uper`; did you mean `upper`?",
    "{{ 1 2 }}": "unexpected a number",
    "{{ input.a": "`{{` has no end: write `}}` after it",
}


LOOP: dict[str, JSON] = {
    "input": {"n": None, "s": "x", "l": [1]},
    "idx": {"output": None, "last_output": None, "status": "IDLE"},
    "nodes": {"my-node": {"output": None, "last_output": 3, "status": "SKIPPED"}},
}
LAST = "`(idx.last_output or 0)` keeps that of its latest visit"
NULLS: dict[str, tuple[str, str]] = {
    "idx.output + 1": ("`idx.output` is null, so `+`", LAST),
    "1 + idx.output": ("`idx.output` is null, so `+`", "`(idx.output or 0)`"),
    "( idx.output ) * 2": ("`idx.output` is null, so `*`", LAST),
    "1 + 2 - idx.output": ("`idx.output` is null, so `-`", LAST),
    "2 ** idx.output": ("`idx.output` is null, so `**`", LAST),
    "idx.output // 2": ("`idx.output` is null, so `//`", LAST),
    "(1 + 2) % (idx.output)": ("`idx.output` is null, so `%`", LAST),
    "{{ idx.output + 1 }}": ("`idx.output` is null, so `+`", LAST),
    "round: {{ idx.output + 1 }}": ("`idx.output` is null, so `+`", LAST),
    "idx.output > 1": ("`idx.output` is null and `1` is a number", LAST),
    "nodes['my-node'].output + 1": ("`nodes['my-node'].output` is null", "`(nodes['my-node'].last_output or 0)`"),
    "input.s + idx.output": ("`idx.output` is null", "`(idx.output or '')`"),
    "input.l + input.n": ("`input.n` is null", "as in `(input.n or [])`"),
    "input.n / 2": ("`input.n` is null, so `/`", "as in `(input.n or 0)`"),
    "input.l[input.n + 0]": ("`input.n` is null, so `+`", "as in `(input.n or 0)`"),
    "1 + nope": ("`nope` is undefined", "`… | default(value)`"),
    "input.zz + 1": ("`input.zz` is undefined", "`… | default(value)`"),
    "[1][7]": ("the value is undefined",),
    "input['a b']": ("`input['a b']` is undefined",),
    "input['a'][-7].b": ("`input['a']` is undefined",),
    "input.s.length": ("`input.s.length` is undefined: a length is `input.s | length`",),
}


@pytest.mark.parametrize("text", NULLS)
def test_an_operation_with_null_names_the_value_and_what_to_write(text: str) -> None:
    with pytest.raises(ExpressionError) as failed:
        (render if "{{" in text else evaluate)(text, LOOP)
    assert all(part in failed.value.message for part in NULLS[text]), failed.value.message
    assert failed.value.line == 1


CHARACTERS: dict[str, tuple[str, int]] = {
    "$json.name": ("unexpected character `$`: names have no `$`: instead of `$json` write `input.name`", 1),
    "{{ $json.name }}": ("unexpected character `$`", 4),
    "Hello {{ $json.name }}": ("unexpected character `$`", 10),
    "$('Node').item.json": ("`node_id.output.name`", 1),
    "é + $json": ("unexpected character `$`", 5),
    "input.s ? 1 : 2": ("unexpected character `?`: write `a if condition else b`", 9),
    "input?.s": ("unexpected character `?`", 6),
    "input.s && 1": ("unexpected character `&`: write `and`", 9),
    "input.s || 1": ("write `or`", 10),
    "!input.s": ("unexpected character `!`: write `not a`", 1),
    "input.s === 1": ("write `==` or `!=`", 11),
    "input.s !== 1": ("write `==` or `!=`", 11),
    "input.s = 1": ("equality is `==`", 9),
    "`a`": ("put a text into `'` or `\"`", 1),
    "“a”": ("unexpected character `“`: put a text", 1),
    "input.s ^ 2": ("the power is `a ** b`", 9),
    "input.s @ 2": ("unexpected character `@`", 9),
}


@pytest.mark.parametrize("text", CHARACTERS)
def test_a_character_of_another_language_is_named_with_what_to_write(text: str) -> None:
    message, column = CHARACTERS[text]
    with pytest.raises(ExpressionError) as failed:
        (render if "{{" in text else evaluate)(text, LOOP)
    assert message in failed.value.message and (failed.value.line, failed.value.column) == (1, column)


@pytest.mark.parametrize("text", [*EXPRESSIONS, *TEMPLATES])
def test_a_failed_expression_has_an_own_sentence(text: str) -> None:
    with pytest.raises(ExpressionError) as failed:
        (evaluate if text in EXPRESSIONS else render)(text, SCOPE)
    assert {**EXPRESSIONS, **TEMPLATES}[text] in failed.value.message, failed.value.message
    assert FOREIGN.search(failed.value.message) is None, failed.value.message
    assert failed.value.line and failed.value.column
