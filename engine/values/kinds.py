"""Names the types of JSON values, and quotes values, in messages for authors. Pure."""

from typing import Any

import orjson

MAX_QUOTED = 80
"""Characters of a value that a message quotes."""
_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    type(None): "null",
}


def kind(value: Any) -> str:
    """Name the JSON type of a value, with its article."""
    return _KINDS.get(type(value)) or ("a text" if isinstance(value, str) else "no JSON value")


def quoted_json(value: Any) -> str:
    """Return a value as JSON, shortened, as a message quotes it."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        return kind(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"
