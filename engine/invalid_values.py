"""Own sentences for the errors of pydantic, so that no author reads the messages of a library.

Used wherever a pydantic model validates what an author or an administrator has written. Pure.
"""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from engine.problems import join_path

MAX_MESSAGES = 5
"""Messages of one error that are joined to a text."""
_OBJECT, _LIST, _TEXT = "must be an object", "must be a list", "must be a text"
_WHOLE, _NUMBER, _BOOLEAN = "must be a whole number", "must be a number", "must be true or false"
_DATE, _TIME, _DURATION = "must be a date", "must be a date and time (RFC 3339)", "must be a duration"
_FIXED: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "none_required": "must be null",
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "iterable_type": _LIST,
    "string_type": _TEXT,
    "string_sub_type": _TEXT,
    "string_unicode": _TEXT,
    "bytes_type": _TEXT,
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "must be a whole number of at most 64 bits",
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "time_delta_type": _DURATION,
    "time_delta_parsing": _DURATION,
    "url_type": "must be an address",
    "url_parsing": "must be an address such as https://example.com",
    "url_scheme": "must be an address such as https://example.com",
    "json_invalid": "is no JSON",
    "json_type": "must be a text with JSON",
    "recursion_loop": "contains itself",
}
_LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda ctx: f"must be greater than {_number(ctx['gt'])}",
    "greater_than_equal": lambda ctx: f"must be at least {_number(ctx['ge'])}",
    "less_than": lambda ctx: f"must be less than {_number(ctx['lt'])}",
    "less_than_equal": lambda ctx: f"must be at most {_number(ctx['le'])}",
    "multiple_of": lambda ctx: f"must be a multiple of {ctx['multiple_of']}",
    "string_too_short": lambda ctx: _least(ctx["min_length"], "character"),
    "string_too_long": lambda ctx: f"must have at most {ctx['max_length']:,} characters",
    "too_short": lambda ctx: _least(ctx["min_length"], "item"),
    "too_long": lambda ctx: f"must have at most {ctx['max_length']:,} items",
    "string_pattern_mismatch": lambda ctx: f"must match the pattern {ctx['pattern']}",
    "literal_error": lambda ctx: f"must be {ctx['expected']}",
    "enum": lambda ctx: f"must be {ctx['expected']}",
    "union_tag_not_found": lambda ctx: f"needs the field {ctx['discriminator']}",
    "union_tag_invalid": lambda ctx: f"must have one of {ctx['expected_tags']} as {ctx['discriminator']}",
}
_OWN = ("value_error", "assertion_error")
"""Errors that a validator of ours, or of a node type, has raised with its own message."""
_LIBRARY: frozenset[str] = frozenset(get_args(ErrorType)) - {*_OWN}


def sentence(error: ErrorDetails) -> str:
    """Return what is wrong with a value, as the end of a sentence that begins with its path."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _FIXED:
        return _FIXED[kind]
    if kind in _LIMITS:
        return _LIMITS[kind](context)
    if kind in _LIBRARY:
        return "is not valid here"
    return error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")


def sentences(error: ValidationError) -> str:
    """Return all that is wrong on one line. The values are left out, since they may be keys."""
    details = error.errors(include_url=False, include_context=True, include_input=False)
    texts = [_with_path(detail) for detail in details[:MAX_MESSAGES]]
    return "; ".join([*dict.fromkeys(texts), "…"] if len(details) > MAX_MESSAGES else dict.fromkeys(texts))


def _with_path(error: ErrorDetails) -> str:
    path = join_path("", *error["loc"])
    mark = ":" if error["type"] not in _LIBRARY else ""  # a message of a validator is a sentence of its own
    return f"`{path}`{mark} {sentence(error)}" if path else sentence(error)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _least(count: int, unit: str) -> str:
    return "must not be empty" if count == 1 else f"must have at least {count:,} {unit}s"
