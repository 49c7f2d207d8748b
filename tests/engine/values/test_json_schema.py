"""Tests of checking JSON Schemas of authors: their meaning, and their limits of time."""

import time
from typing import Any

import pytest

from engine.isolation import client
from engine.values.json_schema import check_inputs, check_schema, mismatches

DOUBLING: dict[str, Any] = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {"type": "string"}},
}


def codes(value: Any, schema: Any) -> set[tuple[str, str]]:
    return {(problem.field, problem.code) for problem in mismatches(value, schema, "inputs")}


def test_every_mismatch_is_reported_with_its_path() -> None:
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


def test_a_schema_may_have_references_to_its_own_parts() -> None:
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
def test_a_problem_of_a_schema_has_the_path_of_its_place(schema: Any, field: str) -> None:
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
        "pattern with look-ahead",
        "pattern with a count",
        "patterns",
        "errors",
        "product",
        "self",
        "doubling",
        "doubling errors",
    ],
)
def test_no_schema_uses_more_than_a_second_of_this_process(schema: Any, value: Any) -> None:
    started_at = time.process_time()
    check_schema(schema, "inputs")
    mismatches(value, schema, "inputs")
    assert time.process_time() - started_at < 1


def test_a_check_that_exceeds_its_limit_is_reported_as_a_problem() -> None:
    [problem] = mismatches("x", DOUBLING, "inputs")
    assert (problem.field, problem.code) == ("inputs", "SCHEMA")
    assert "takes more than" in problem.message


def test_a_pattern_may_have_look_around() -> None:
    schema = {"pattern": "^(?=.*[A-Z])(?=.*[0-9]).{4,}$"}
    assert codes("abC4", schema) == set()
    assert codes("abcd", schema) == {("inputs", "PATTERN")}


def test_only_the_first_problem_of_a_large_value_is_reported() -> None:
    [problem] = mismatches(["x", *range(100_000)], {"items": {"type": "string"}}, "inputs")
    assert (problem.field, problem.code) == ("inputs[1]", "TYPE")
    assert len(mismatches(list(range(1_000)), {"items": {"type": "string"}}, "inputs")) == 100


def test_schemas_share_one_time_limit() -> None:
    heavy = [{"pattern": "(?=x)", "description": str(number)} for number in range(3)]
    with client.shared_time_limit(0):
        assert ["together" in check_schema(schema, "inputs")[0].message for schema in heavy] == [True] * 3
    assert [check_schema(schema, "inputs") for schema in heavy] == [[]] * 3


def test_a_schema_that_is_a_reference_to_itself_accepts_every_input() -> None:
    assert check_inputs({"a": 1}, {"$ref": "#"}) == []


def test_every_mismatch_of_an_input_is_reported_with_its_path() -> None:
    schema = {"type": "object", "required": ["name"], "properties": {"age": {"type": "integer"}}}
    fields = {problem.field for problem in check_inputs({"age": "old"}, schema)}
    assert fields == {"inputs", "inputs.age"}


VIOLATIONS: list[tuple[Any, Any, str]] = [
    ({"type": ["number", "null"]}, "x", "must be null or a number"),
    ({"required": ["a"]}, {}, "must have the member 'a'"),
    ({"enum": [1, "b"]}, 3, 'must be one of 1, "b"'),
    ({"const": 1}, 3, "must be 1"),
    ({"minimum": 1}, 0, "must be at least 1"),
    ({"exclusiveMaximum": 1.5}, 2, "must be less than 1.5"),
    ({"multipleOf": 3}, 2, "must be a multiple of 3"),
    ({"minLength": 1}, "", "must have at least 1 character"),
    ({"maxItems": 1}, [1, 2], "must have at most 1 item"),
    ({"maxProperties": 0}, {"a": 1}, "must have at most 0 members"),
    ({"uniqueItems": True}, [1, 1], "has an item twice"),
    ({"contains": {"type": "string"}}, [1], "has no item that matches `contains`"),
    ({"contains": {}, "maxContains": 1}, [1, 2], "has too many items that match `contains`"),
    ({"additionalProperties": False, "properties": {"b": {}}}, {"a": 1, "c": 2}, "must not have the members 'a', 'c'"),
    ({"additionalProperties": False}, {"a": 1, "c": 2}, "must not have any members"),
    ({"unevaluatedProperties": False}, {"a": 1}, "must not have the members 'a'"),
    ({"unevaluatedItems": False}, [1], "has items that are not allowed"),
    ({"items": False}, [2], "is not allowed here"),
    ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, "a wrong name, which must have at most 1 character"),
    ({"pattern": "^x"}, "a", "must match the pattern '^x'"),
    ({"not": {"type": "string"}}, "a", "must not match the schema in `not`"),
    (
        {"oneOf": [{"type": "string"}, {"minimum": 3}]},
        1,
        "none of the alternatives: must be a text; must be at least 3",
    ),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 1, "matches more than one of the alternatives of `oneOf`"),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "none of the alternatives: must be a text; must be null"),
    ({"$ref": "#/nope"}, 1, "has a `$ref` to '/nope', which the schema does not have"),
    ({"pattern": "("}, "a", "check its brackets, and make its counts smaller"),
]


@pytest.mark.parametrize(("schema", "value", "message"), VIOLATIONS)
def test_a_violation_is_a_sentence_of_our_own(schema: Any, value: Any, message: str) -> None:
    [problem] = mismatches(value, schema, "inputs")
    assert problem.message.endswith(message)


def test_a_violation_is_reported_once() -> None:
    [problem] = check_schema({"items": 5}, "inputs")
    assert (problem.field, problem.message) == ("inputs.items", "must be true or false or an object")
