"""Check JSON Schemas of authors, and values against them. No reference is fetched from anywhere.

Most checks run in this process, because their work is bounded: a plain pattern costs at most its
size times the size of the text, and a pattern with look-around or backreferences has a limit of
steps. A schema whose work is not bounded, by its references, the counts in its patterns or its
size, is checked in the isolation process (engine/isolation/client.py).
docs/decisions/0009-isolated-evaluation.md gives the reasons.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator, FancyRegexOptions, ReferencingError, ValidationError

from engine.errors import NotStorable
from engine.isolation import client
from engine.problems import FieldProblem, join_path
from engine.types import JSON
from engine.values.large_values import off_loop
from engine.values.schema_defaults import DefaultsTooLarge, with_defaults
from engine.values.schema_messages import sentence, unusable
from engine.values.storable import check_storable

MAX_PROBLEMS = 100
"""Problems that are reported of one value."""
MAX_MESSAGE = 500
"""Characters of one message."""
MAX_SCHEMA = 16 * 1024
"""Bytes of a schema that is compiled in this process."""
MAX_PRODUCT = 16 * 1024 * 1024
"""Bytes of the schema times bytes of the value, for a check in this process."""
MAX_PATTERN_PRODUCT = 4 * 1024 * 1024
"""The same for a schema with patterns, whose counts are added to the bytes of the schema."""
MAX_INPUT_BYTES = 1024 * 1024
"""Bytes of the input of a run, as JSON."""
MAX_PATTERNS = 20
"""Patterns of a schema that is compiled in this process."""
MAX_COUNT = 1_000
"""The sum of the counts in all patterns: `[ab]{0,300}` is as much work as 300 times `[ab]?`."""
BACKTRACK_LIMIT = 100_000
"""Steps of a pattern that backtracks."""
PATTERN_BYTES = 1024 * 1024
"""Memory of a compiled pattern."""
MAX_FULL_REPORT = 32 * 1024
"""Bytes of a value of which every problem is reported. Of a larger one only the first is reported,
because the library collects all problems before it returns one.
"""
# In the JSON text of a schema: references, an unlimited number of patterns, and the parts of a
# pattern that need backtracking.
_UNBOUNDED = re.compile(rb'"\$(?:ref|dynamicRef)"|"patternProperties"|\)\{\d|\(\?[^:]|\\\\[1-9kKG]|[+*?}]\+')
_COUNT = re.compile(rb"\{(?:\d*,)?(\d{1,9})")

_META = b'{"$ref":"https://json-schema.org/draft/2020-12/schema"}'
Violation = tuple[list[str | int], str, str]
"""The place in the value, the keyword of the schema that does not hold, and a message."""


def check_schema(schema: JSON, path: str) -> list[FieldProblem]:
    """Find the problems of a schema.

    Args:
        schema: The schema, as an author wrote it.
        path: The place of the schema, the beginning of `field` in the problems.

    Returns:
        The problems; empty if the schema can be used.
    """
    try:
        return schema_problems(schema, path)
    except client.TemporarilyUnavailable as error:
        return [_schema_problem(path, f"the schema {error}")]


def schema_problems(schema: JSON, path: str) -> list[FieldProblem]:
    """Find the problems of a schema, for a caller that can try again later.

    Raises:
        TemporarilyUnavailable: The schema could not be checked now. `check_schema` reports this as
            a problem.
    """
    if not isinstance(schema, dict | bool):
        return [_schema_problem(path, "a JSON Schema must be an object")]
    if foreign := list(_foreign_references(schema, path)):
        return foreign
    try:
        violations = (
            schema_violations(schema)
            if _is_bounded(_dump(schema))
            else client.run_isolated("engine.values.json_schema.schema_violations", schema)
        )
    except client.TemporarilyUnavailable:
        raise
    except client.ResourceLimitExceeded as error:
        return [_schema_problem(path, f"the schema {error}")]
    return [_schema_problem(join_path(path, *place), message) for place, _, message in violations]


def _foreign_references(schema: JSON, path: str) -> Iterator[FieldProblem]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
                yield _schema_problem(join_path(path, key), f"{value!r} is outside of this schema")
            yield from _foreign_references(value, join_path(path, key))
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from _foreign_references(value, join_path(path, index))


def mismatches(value: JSON, schema: JSON, path: str) -> list[FieldProblem]:
    """Find the places where a value does not match its schema.

    Args:
        value: Any JSON.
        schema: A JSON Schema (draft 2020-12).
        path: The place of the value, the beginning of `field` in the problems.

    Returns:
        At most MAX_PROBLEMS problems, with the keyword in capitals as code. One problem with code
        SCHEMA if the schema cannot be used or the check exceeded a limit.
    """
    schema_bytes, size = _dump(schema), len(orjson.dumps(value))
    try:
        violations = (
            _find_violations(value, schema_bytes)
            if _is_light(schema_bytes, size)
            else client.run_isolated("engine.values.json_schema.value_violations", value, schema)
        )
    except client.ResourceLimitExceeded as error:
        return [_schema_problem(path, f"the check against the schema {error}")]
    return [FieldProblem(join_path(path, *place), keyword.upper(), message) for place, keyword, message in violations]


def schema_violations(schema: JSON) -> list[Violation]:
    """Check a schema against the meta-schema, and compile it.

    An isolated task: takes and returns JSON.
    """
    if violations := _find_violations(schema, _META):
        return violations
    try:
        _compile(schema)
    except ValidationError as error:
        return [(list(error.instance_path), str(error.kind.name), unusable(error))]
    except (ReferencingError, RecursionError, ValueError) as error:
        return [([], "$ref", unusable(error))]
    return []


def value_violations(value: JSON, schema: JSON) -> list[Violation]:
    """Check a value against a schema. An isolated task: takes and returns JSON."""
    return _find_violations(value, _dump(schema))


def _find_violations(value: JSON, schema_bytes: bytes) -> list[Violation]:
    try:
        validator = _validator(schema_bytes)
    except (ValidationError, ReferencingError, RecursionError, ValueError) as error:
        return [([], "SCHEMA", f"cannot be checked: the schema {unusable(error)}")]
    if validator.is_valid(value):
        return []
    if len(orjson.dumps(value)) > MAX_FULL_REPORT:
        return [_first_violation(validator, value)]
    found = {
        _violation(error): None for error, _ in zip(validator.iter_errors(value), range(MAX_PROBLEMS), strict=False)
    }
    return [(list(path), keyword, message) for path, keyword, message in found]  # some are found more than once


def _first_violation(validator: Draft202012Validator, value: JSON) -> Violation:
    try:
        validator.validate(value)
    except ValidationError as error:
        path, keyword, message = _violation(error)
        return list(path), keyword, message
    raise AssertionError("the validator found the value invalid and then valid")


@lru_cache(maxsize=256)
def _validator(schema_bytes: bytes) -> Draft202012Validator:
    return _compile(orjson.loads(schema_bytes))


def _compile(schema: Any) -> Draft202012Validator:
    patterns = FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT, size_limit=PATTERN_BYTES)
    return Draft202012Validator(schema, pattern_options=patterns, offline=True)


def _violation(error: ValidationError) -> tuple[tuple[str | int, ...], str, str]:
    return tuple(error.instance_path), str(error.kind.name), sentence(error)[:MAX_MESSAGE]


def _dump(schema: JSON) -> bytes:
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=256)
def _is_bounded(schema_bytes: bytes) -> bool:
    """Tell whether the work of a schema is bounded by its size and the size of the value."""
    if len(schema_bytes) > MAX_SCHEMA or schema_bytes.count(b'"pattern') > MAX_PATTERNS:
        return False
    return not _UNBOUNDED.search(schema_bytes) and _sum_of_counts(schema_bytes) <= MAX_COUNT


@lru_cache(maxsize=256)
def _sum_of_counts(schema_bytes: bytes) -> int:
    """Add the counts in the patterns of a schema, such as the 300 of `[ab]{0,300}`."""
    return sum(int(count) for count in _COUNT.findall(schema_bytes))


def _is_light(schema_bytes: bytes, size: int) -> bool:
    """Tell whether a value of `size` bytes can be checked in this process.

    In the worst case a pattern checks all of its states at each character of a text.
    """
    if not _is_bounded(schema_bytes):
        return False
    if b'"pattern"' in schema_bytes:
        return (len(schema_bytes) + _sum_of_counts(schema_bytes)) * size <= MAX_PATTERN_PRODUCT
    return len(schema_bytes) * size <= MAX_PRODUCT


def _schema_problem(path: str, message: str) -> FieldProblem:
    return FieldProblem(path, "SCHEMA", message[:MAX_MESSAGE])


def complete_inputs(inputs: JSON, schema: JSON | None) -> tuple[JSON, list[FieldProblem]]:
    """Add the defaults of the schema to the input of a run, and find its problems.

    `complete_nested_inputs` does it for a spec inside a run, whose input was checked when it started.

    Args:
        inputs: The input, any JSON.
        schema: The JSON Schema of the spec; None accepts everything.

    Returns:
        The complete input, and at most MAX_PROBLEMS problems.
    """
    if problems := _size_problems(inputs):
        return inputs, problems
    completed, problems = complete_nested_inputs(inputs, schema)
    return completed, problems if completed is inputs else _size_problems(completed) or problems


def complete_nested_inputs(inputs: JSON, schema: JSON | None) -> tuple[JSON, list[FieldProblem]]:
    """Add the defaults of the schema of a spec inside a run; see `complete_inputs`."""
    if schema is None:
        return inputs, []
    if b'"default"' in _dump(schema):
        try:
            inputs = with_defaults(inputs, schema)
        except DefaultsTooLarge as error:
            return inputs, [_schema_problem("inputs", f"the schema cannot be used: {error}")]
    return inputs, mismatches(inputs, schema, "inputs")


def check_inputs(inputs: JSON, schema: JSON | None) -> list[FieldProblem]:
    """Find the problems of the input of a run that is complete; see `complete_inputs`."""
    return _size_problems(inputs) or ([] if schema is None else mismatches(inputs, schema, "inputs"))


def _size_problems(inputs: JSON) -> list[FieldProblem]:
    try:
        off_loop(check_storable, inputs)
    except NotStorable as error:
        return [FieldProblem("inputs" + error.path, "NOT_STORABLE", str(error))]
    size = len(orjson.dumps(inputs))
    if size > MAX_INPUT_BYTES:
        return [FieldProblem("inputs", "TOO_LARGE", f"The input is {size:,} bytes of JSON, over {MAX_INPUT_BYTES:,}.")]
    return []


def checked_schema(schema: JSON) -> JSON:
    """Return a schema of a node's config unchanged. Raises ValueError, as pydantic expects, for a bad one."""
    if problems := check_schema(schema, "schema"):
        raise ValueError(f"is no JSON Schema: {problems[0].message} (at {problems[0].field})")
    return schema
