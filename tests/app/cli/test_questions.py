"""The mutation that `treadle run` prints for a question is valid, and its sample answer fits."""

from typing import Any

import jsonschema_rs
import pytest
from graphql import OperationDefinitionNode, build_schema, parse, validate, value_from_ast_untyped

from app.cli.questions import WAITS, answer_mutation, sample_of
from tests.paths import ROOT

SCHEMA = build_schema((ROOT / "schema" / "schema.graphql").read_text())


def wait(schema: Any) -> dict[str, Any]:
    return {"nodeId": "ask", "waitId": "wait_1", "prompt": "Well?", "schema": schema, "expiresAt": None}


def answer_of(text: str) -> Any:
    """Return the `answer` argument of a mutation."""
    definition = parse(text).definitions[0]
    assert isinstance(definition, OperationDefinitionNode)
    field: Any = definition.selection_set.selections[0]
    return value_from_ast_untyped(field.arguments[0].value)["answer"]


SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]},
    {"type": "object", "properties": {"note": {"type": "string"}, "amount": {"type": "integer"}}},
    {"type": ["string", "null"]},
    {"type": "array", "items": {"type": "number"}},
    {"enum": ['say "yes"', "no"]},
    {"const": {"nested": [1, None, {"deep": True}]}},
    {"default": 7},
    True,
    {},
]


@pytest.mark.parametrize("schema", [*SCHEMAS, None], ids=str)
def test_the_mutation_is_valid_and_its_answer_matches_the_schema(schema: Any) -> None:
    text = answer_mutation("run_1", wait(schema))
    assert validate(SCHEMA, parse(text)) == []
    if schema is not None:
        jsonschema_rs.validate(schema, answer_of(text))


def test_a_key_that_is_no_graphql_name_is_left_out() -> None:
    schema = {"type": "object", "required": ["a key", "b"], "properties": {"b": {"type": "number"}}}
    assert answer_of(answer_mutation("run_1", wait(schema))) == {"b": 0}
    assert sample_of(schema) == {"a key": "...", "b": 0}


def test_the_query_for_waits_is_valid() -> None:
    assert validate(SCHEMA, parse(WAITS)) == []
