"""JSON Schemas of authors: what they mean, and that none of them holds us up."""

import time
from typing import Any

import pytest

from engine.isolation import client
from engine.values.json_schema import check_schema, mismatches

DOUBLING: dict[str, Any] = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {"type": "string"}},
}


def codes(value: Any, schema: Any) -> set[tuple[str, str]]:
    return {(problem.field, problem.code) for problem in mismatches(value, schema, "inputs")}


def test_every_mismatch_is_told_with_its_path() -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "properties": {"rows": {"items": {"properties": {"n": {"maximum": 3}}}}, "code": {"pattern": "^[A-Z]+$"}},
        "additionalProperties": False,
    }
    value = {"rows": [{"n": 1}, {"n": 9}], "code": "x", "more": 1}
    assert codes(value, schema) == {
        ("inputs", "REQUIRED"),
        ("inputs", "ADDITIONALPROPERTIES"),
        ("inputs.rows[1].n", "MAXIMUM"),
        ("inputs.code", "PATTERN"),
    }
    assert codes({"name": 1, "code": "AB"}, {**schema, "properties": {"name": {}, "code": {}}}) == set()


def test_a_schema_may_refer_to_its_own_parts() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}
    assert check_schema(schema, "inputs") == []
    assert codes({"a": "x"}, schema) == {("inputs.a", "TYPE")}
    tree = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    assert codes({"left": {"right": 1}}, tree) == {("inputs.left.right", "TYPE")}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "nope"}, "inputs.type"),
        ({"properties": {"a": {"type": 3}}}, "inputs.properties.a.type"),
        ({"properties": {"a": {"pattern": "("}}}, "inputs.properties.a.pattern"),
        ({"items": [{"$ref": "http://example.com/x"}]}, "inputs.items[0].$ref"),
        ({"$ref": "file:///etc/passwd"}, "inputs.$ref"),
        ({"$ref": "#/$defs/nope"}, "inputs"),
        ("text", "inputs"),
    ],
)
def test_a_schema_that_cannot_be_used_says_where(schema: Any, field: str) -> None:
    assert [(problem.field, problem.code) for problem in check_schema(schema, "inputs")] == [(field, "SCHEMA")]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 50_000 + "b"),
        ({"items": {"pattern": "^(?=(a+)+$)(a+)+b"}}, ["a" * 30] * 5_000),
        ({"pattern": "[ab]{0,3000}x"}, "ab" * 250_000),
        ({"patternProperties": {f".{{{50 + i}}}": True for i in range(900)}}, {"a" * 1000: 1}),
        ({"items": {"type": "string"}}, list(range(100_000))),
        ({"items": {"allOf": [{"minimum": 0}] * 20_000}}, list(range(10_000))),
        ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, 1),
        (DOUBLING, "x"),
        (DOUBLING, 1),
    ],
    ids=[
        "plain pattern",
        "pattern that looks ahead",
        "pattern that counts",
        "patterns",
        "errors",
        "product",
        "self",
        "doubling",
        "doubling errors",
    ],
)
def test_no_schema_holds_us_up(schema: Any, value: Any) -> None:
    began = time.process_time()
    check_schema(schema, "inputs")
    mismatches(value, schema, "inputs")
    assert time.process_time() - began < 1


def test_what_took_too_long_is_told() -> None:
    [problem] = mismatches("x", DOUBLING, "inputs")
    assert (problem.field, problem.code) == ("inputs", "SCHEMA")
    assert "takes more than" in problem.message


def test_a_pattern_may_look_around() -> None:
    schema = {"pattern": "^(?=.*[A-Z])(?=.*[0-9]).{4,}$"}
    assert codes("abC4", schema) == set()
    assert codes("abcd", schema) == {("inputs", "PATTERN")}


def test_of_a_large_value_the_first_fault_alone_is_told() -> None:
    [problem] = mismatches(["x", *range(100_000)], {"items": {"type": "string"}}, "inputs")
    assert (problem.field, problem.code) == ("inputs[1]", "TYPE")
    assert len(mismatches(list(range(1_000)), {"items": {"type": "string"}}, "inputs")) == 100


def test_what_is_asked_together_has_a_limit_together() -> None:
    heavy = [{"pattern": "(?=x)", "description": str(number)} for number in range(3)]
    with client.shared_time_limit(0):
        assert ["together" in check_schema(schema, "inputs")[0].message for schema in heavy] == [True] * 3
    assert [check_schema(schema, "inputs") for schema in heavy] == [[]] * 3
