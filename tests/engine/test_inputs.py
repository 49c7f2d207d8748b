"""A run's input against the schema of its spec."""

from engine.inputs import check_inputs


def test_a_schema_that_refers_to_itself_is_a_problem_and_no_fault() -> None:
    [problem] = check_inputs({"a": 1}, {"$ref": "#"})
    assert (problem.field, problem.code) == ("inputs", "SCHEMA")


def test_every_mismatch_is_told_with_its_path() -> None:
    schema = {"type": "object", "required": ["name"], "properties": {"age": {"type": "integer"}}}
    fields = {problem.field for problem in check_inputs({"age": "old"}, schema)}
    assert fields == {"inputs", "inputs.age"}
