"""Own sentences for the violations of JSON Schemas, so that no author reads the messages of a library.

Each completes a sentence that begins with the path of the value. Values are left out, since they may
be secret or long. Pure.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from jsonschema_rs import ReferencingError, ValidationError

MAX_SHOWN = 200
"""Characters of a pattern, or of the accepted values."""
MAX_ALTERNATIVES = 3
"""Alternatives of `anyOf` and `oneOf` whose reasons a message lists."""
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}
_Values = Mapping[str, Any]


def sentence(error: ValidationError) -> str:
    """Return what is wrong with a value."""
    place = error.schema_path[-1] if error.schema_path else ""
    if place in _COUNTS:
        return _COUNTS[str(place)]
    if place == "additionalProperties" and error.kind.name == "falseSchema":
        return "must not have any members"  # it is about the object, and names none of them
    known = _SENTENCES.get(error.kind.name)
    return "does not match the schema" if known is None else known(error.kind.as_dict())


def unusable(error: Exception) -> str:
    """Return why a schema that is valid by itself cannot be used."""
    if isinstance(error, ValidationError) and error.kind.name == "format":
        return "is no pattern that can be used: check its brackets, and make its counts smaller"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    cause = error.kind.as_dict().get("error") if isinstance(error, ValidationError) else error
    if isinstance(cause, ReferencingError) and "does not exist" in str(cause):
        quoted = str(cause).split("'")[1:2]
        return f"has a `$ref` to {quoted[0]!r}, which the schema does not have" if quoted else _NO_REFERENCE
    return _NO_REFERENCE if isinstance(cause, ReferencingError) else "is no JSON Schema that can be used"


_NO_REFERENCE = "has a `$ref`, `$id` or `$anchor` that is not valid"
_COUNTS = {
    "minContains": "has too few items that match `contains`",
    "maxContains": "has too many items that match `contains`",
}


def _type(values: _Values) -> str:
    return f"must be {' or '.join(_TYPES.get(name, name) for name in values['types'])}"


def _enum(values: _Values) -> str:
    return f"must be one of {_listed(values['options'])}"


def _listed(values: list[Any]) -> str:
    text = ", ".join(orjson.dumps(value).decode() for value in values)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _limit(words: str, unit: str = "") -> Callable[[_Values], str]:
    def text(values: _Values) -> str:
        limit = values["limit"]
        return f"must {words} {limit}" + (f" {unit}{'' if limit == 1 else 's'}" if unit else "")

    return text


def _required(values: _Values) -> str:
    return f"must have the member {values['property']!r}"


def _unexpected(values: _Values) -> str:
    names = ", ".join(repr(name) for name in values["unexpected"])
    return f"must not have the members {names}"[:MAX_SHOWN]


def _pattern(values: _Values) -> str:
    return f"must match the pattern {values['pattern'][:MAX_SHOWN]!r}"


def _names(values: _Values) -> str:
    return f"has a member with a wrong name, which {sentence(values['error'])}"


def _alternatives(values: _Values) -> str:
    reasons = dict.fromkeys(sentence(errors[0]) for errors in values["context"] if errors)
    some = "; ".join(list(reasons)[:MAX_ALTERNATIVES])
    return f"matches none of the alternatives: {some}{'; …' if len(reasons) > MAX_ALTERNATIVES else ''}"


def _one_of(values: _Values) -> str:
    if any(not errors for errors in values["context"]):
        return "matches more than one of the alternatives of `oneOf`"
    return _alternatives(values)


def _fixed(text: str) -> Callable[[_Values], str]:
    return lambda _: text


_SENTENCES: Mapping[str, Callable[[_Values], str]] = {
    "additionalItems": _fixed("has too many items"),
    "additionalProperties": _unexpected,
    "anyOf": _alternatives,
    "const": lambda values: f"must be {_listed([values['expected_value']])}",
    "contains": _fixed("has no item that matches `contains`"),
    "contentEncoding": lambda values: f"must be encoded as {values.get('content_encoding', 'the schema says')}",
    "contentMediaType": lambda values: f"must be a text of type {values.get('content_media_type', '')}".rstrip(),
    "enum": _enum,
    "exclusiveMaximum": _limit("be less than"),
    "exclusiveMinimum": _limit("be greater than"),
    "falseSchema": _fixed("is not allowed here"),
    "format": lambda values: f"must have the format {values['format']!r}",
    "maxItems": _limit("have at most", "item"),
    "maxLength": _limit("have at most", "character"),
    "maxProperties": _limit("have at most", "member"),
    "maximum": _limit("be at most"),
    "minItems": _limit("have at least", "item"),
    "minLength": _limit("have at least", "character"),
    "minProperties": _limit("have at least", "member"),
    "minimum": _limit("be at least"),
    "multipleOf": lambda values: f"must be a multiple of {values['multiple_of']}",
    "not": _fixed("must not match the schema in `not`"),
    "oneOf": _one_of,
    "pattern": _pattern,
    "propertyNames": _names,
    "required": _required,
    "type": _type,
    "unevaluatedItems": _fixed("has items that are not allowed"),
    "unevaluatedProperties": _unexpected,
    "uniqueItems": _fixed("has an item twice"),
    "backtrackLimitExceeded": _fixed("has a text for which the pattern takes too many steps"),
    "regexEngineFailure": _fixed("has a text that the pattern cannot check"),
}
