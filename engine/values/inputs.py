"""Checks a run's input, or a person's answer, against what is asked for. Pure."""

import orjson

from engine.events import JSON
from engine.problems import FieldProblem
from engine.values.json_schema import mismatches
from engine.values.storable import NotStorable, check_storable

MAX_INPUT_BYTES = 1024 * 1024


def check_inputs(inputs: JSON, schema: JSON | None) -> list[FieldProblem]:
    """Everything wrong with `inputs`, at most 100. `schema` is the spec's JSON Schema, or None for anything."""
    try:
        check_storable(inputs)
    except NotStorable as error:
        return [FieldProblem("inputs" + error.path, "NOT_STORABLE", str(error))]
    size = len(orjson.dumps(inputs))
    if size > MAX_INPUT_BYTES:
        return [FieldProblem("inputs", "TOO_LARGE", f"The input is {size:,} bytes of JSON, over {MAX_INPUT_BYTES:,}.")]
    return [] if schema is None else mismatches(inputs, schema, "inputs")
