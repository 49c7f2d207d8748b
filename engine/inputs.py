"""Checks a run's input against what its spec asks for. Pure; references in a schema are never fetched from anywhere."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import orjson
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from engine.events import JSON
from engine.problems import FieldProblem
from engine.states import Severity
from engine.storable import NotStorable, check_storable

MAX_INPUT_BYTES = 1024 * 1024
MAX_PROBLEMS = 100


def check_inputs(inputs: JSON, schema: JSON | None) -> list[FieldProblem]:
    """Everything wrong with `inputs`, at most 100. `schema` is the spec's JSON Schema, or None for anything."""
    try:
        check_storable(inputs)
    except NotStorable as error:
        return [_problem("inputs" + error.path, "NOT_STORABLE", str(error))]
    size = len(orjson.dumps(inputs))
    if size > MAX_INPUT_BYTES:
        return [_problem("inputs", "TOO_LARGE", f"The input is {size:,} bytes of JSON, over {MAX_INPUT_BYTES:,}.")]
    return [] if schema is None else list(_mismatches(inputs, schema))


def _mismatches(inputs: JSON, schema: JSON) -> Iterator[FieldProblem]:
    try:
        validator = _validator(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))
        for error, _ in zip(validator.iter_errors(inputs), range(MAX_PROBLEMS), strict=False):
            yield _problem(_path(error.absolute_path), _code(error), error.message[:500])
    except RecursionError:
        yield _problem("inputs", "SCHEMA", "The spec's input schema refers to itself without end.")
    except (SchemaError, Unresolvable) as error:
        yield _problem("inputs", "SCHEMA", f"The spec's input schema cannot be used: {error}"[:500])


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> Draft202012Validator:
    parsed = orjson.loads(schema)
    Draft202012Validator.check_schema(parsed)
    empty: Registry[Any] = Registry()
    return Draft202012Validator(parsed, registry=empty)


def _code(error: ValidationError) -> str:
    return str(error.validator).upper()


def _path(parts: Iterable[str | int]) -> str:
    return "inputs" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _problem(field: str, code: str, message: str) -> FieldProblem:
    return FieldProblem(field=field, code=code, message=message, severity=Severity.ERROR)
