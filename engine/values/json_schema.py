"""JSON Schemas that authors write: whether one can be used, and what does not fit it. Nothing is fetched from anywhere.

A plain pattern takes at most its size times that of the text, one that looks around or back has a limit of steps. What a schema
does not bound by itself, by references, by what its patterns count or by its size, is checked aside, in a process with limits
(engine/isolation/client.py). See docs/decisions/0009.
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
from engine.values.storable import check_storable

MAX_PROBLEMS = 100
MAX_MESSAGE = 500
MAX_SCHEMA = 16 * 1024
"""Bytes of a schema that is compiled here."""
MAX_PRODUCT = 16 * 1024 * 1024
"""Bytes of schema times bytes of value that are checked here."""
MAX_PATTERN_PRODUCT = 4 * 1024 * 1024
MAX_PATTERNS = 20
MAX_COUNTED = 1_000
"""What may be counted in patterns: `[ab]{0,300}` is as much work as 300 times `[ab]?`."""
STEPS = 100_000
PATTERN_BYTES = 1024 * 1024
MAX_TOLD = 32 * 1024
"""Bytes of a value of which everything wrong is told; of a larger one the first alone: they are collected before any is told."""
# In JSON, as it is looked at: references, patterns in any number, and what one may hold that needs backtracking.
_UNBOUNDED = re.compile(rb'"\$(?:ref|dynamicRef)"|"patternProperties"|\)\{\d|\(\?[^:]|\\\\[1-9kKG]|[+*?}]\+')
_TIMES = re.compile(rb"\{(?:\d*,)?(\d{1,9})")

_META = b'{"$ref":"https://json-schema.org/draft/2020-12/schema"}'
Fault = tuple[list[str | int], str, str]
"""Where, the keyword that does not hold, and what is said of it."""


def check_schema(schema: JSON, path: str) -> list[FieldProblem]:
    """What is wrong with a schema that stands at `path`; empty if it can be used."""
    try:
        return schema_problems(schema, path)
    except client.TemporarilyUnavailable as not_now:
        return [_unusable(path, f"the schema {not_now}")]


def schema_problems(schema: JSON, path: str) -> list[FieldProblem]:
    """As `check_schema`, of the schema alone. Raises aside.NotNow where it could not be looked at."""
    if not isinstance(schema, dict | bool):
        return [_unusable(path, "a JSON Schema is an object")]
    if foreign := list(_foreign_references(schema, path)):
        return foreign
    dumped = _dumped(schema)
    try:
        found = (
            schema_faults(schema)
            if _is_bounded(dumped)
            else client.run_isolated("engine.values.json_schema.schema_faults", schema)
        )
    except client.TemporarilyUnavailable:
        raise
    except client.ResourceLimitExceeded as too_much:
        return [_unusable(path, f"the schema {too_much}")]
    return [_unusable(join_path(path, *where), message) for where, _, message in found]


def _foreign_references(schema: JSON, path: str) -> Iterator[FieldProblem]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
                yield _unusable(join_path(path, key), f"{value!r} is outside of this schema")
            yield from _foreign_references(value, join_path(path, key))
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from _foreign_references(value, join_path(path, index))


def mismatches(value: JSON, schema: JSON, path: str) -> list[FieldProblem]:
    """What does not fit, at most 100; `path` is where the value stands."""
    dumped, size = _dumped(schema), len(orjson.dumps(value))
    try:
        found = (
            _faults(value, dumped)
            if _is_light(dumped, size)
            else client.run_isolated("engine.values.json_schema.faults", value, schema)
        )
    except client.ResourceLimitExceeded as too_much:
        return [_unusable(path, f"to check this against its schema {too_much}")]
    return [FieldProblem(join_path(path, *where), keyword.upper(), message) for where, keyword, message in found]


def schema_faults(schema: JSON) -> list[Fault]:
    """Done aside as well: JSON in, JSON out."""
    if found := _faults(schema, _META):
        return found
    try:
        _compiled(schema)
    except ValidationError as wrong:
        return [_fault(wrong)]
    except (ReferencingError, RecursionError, ValueError) as wrong:
        return [([], "$ref", str(wrong)[:MAX_MESSAGE])]
    return []


def faults(value: JSON, schema: JSON) -> list[Fault]:
    """Done aside as well: JSON in, JSON out."""
    return _faults(value, _dumped(schema))


def _faults(value: JSON, dumped: bytes) -> list[Fault]:
    try:
        validator = _validator(dumped)
    except (ValidationError, ReferencingError, RecursionError, ValueError) as wrong:
        return [([], "SCHEMA", f"the schema cannot be used: {wrong}"[:MAX_MESSAGE])]
    if validator.is_valid(value):
        return []
    if len(orjson.dumps(value)) > MAX_TOLD:
        return [_first_fault(validator, value)]
    return [_fault(error) for error, _ in zip(validator.iter_errors(value), range(MAX_PROBLEMS), strict=False)]


def _first_fault(validator: Draft202012Validator, value: JSON) -> Fault:
    try:
        validator.validate(value)
    except ValidationError as wrong:
        return _fault(wrong)
    raise AssertionError("a value that does not fit has no fault")


@lru_cache(maxsize=256)
def _validator(dumped: bytes) -> Draft202012Validator:
    return _compiled(orjson.loads(dumped))


def _compiled(schema: Any) -> Draft202012Validator:
    patterns = FancyRegexOptions(backtrack_limit=STEPS, size_limit=PATTERN_BYTES)
    return Draft202012Validator(schema, pattern_options=patterns, offline=True)


def _fault(error: ValidationError) -> Fault:
    return list(error.instance_path), str(error.kind.name), error.message[:MAX_MESSAGE]


def _dumped(schema: JSON) -> bytes:
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)


@lru_cache(maxsize=256)
def _is_bounded(dumped: bytes) -> bool:
    if len(dumped) > MAX_SCHEMA or dumped.count(b'"pattern') > MAX_PATTERNS or _UNBOUNDED.search(dumped):
        return False
    return _counted(dumped) <= MAX_COUNTED


@lru_cache(maxsize=256)
def _counted(dumped: bytes) -> int:
    return sum(int(times) for times in _TIMES.findall(dumped))


def _is_light(dumped: bytes, size: int) -> bool:
    """Whether a value of that size can be checked here: a pattern looks at each character with all of its states at worst."""
    if not _is_bounded(dumped):
        return False
    if b'"pattern"' in dumped:
        return (len(dumped) + _counted(dumped)) * size <= MAX_PATTERN_PRODUCT
    return len(dumped) * size <= MAX_PRODUCT


def _unusable(path: str, message: str) -> FieldProblem:
    return FieldProblem(path, "SCHEMA", message[:MAX_MESSAGE])


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
