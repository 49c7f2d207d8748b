"""A run's input against the schema of its spec."""

from engine.values.json_schema import check_inputs


def test_a_schema_that_refers_to_itself_alone_asks_for_nothing() -> None:
    assert check_inputs({"a": 1}, {"$ref": "#"}) == []


def test_every_mismatch_is_told_with_its_path() -> None:
    schema = {"type": "object", "required": ["name"], "properties": {"age": {"type": "integer"}}}
    fields = {problem.field for problem in check_inputs({"age": "old"}, schema)}
    assert fields == {"inputs", "inputs.age"}
