"""Finds JSON in the answer of a model: alone, in a fence, or inside prose.

Whoever calls it checks the values against a schema and takes the last one that matches. Models often
repeat an example before their answer.
"""

import json
from collections import deque
from collections.abc import Iterator
from typing import NoReturn

from engine.types import JSON
from engine.values.json_text import NotJson, parse_json, without_mark
from engine.values.storable import MAX_SIZE, is_storable

MAX_VALUES = 10
"""Objects in prose that are returned, the last ones."""
MAX_PROSE = 1024 * 1024
"""Characters of a text in which objects are searched."""
MAX_WASTED = MAX_PROSE
"""Characters of prose that are read in vain, where a brace does not begin an object."""
COST_OF_BRACE = 64
"""Characters that could be read in the time which a brace that begins no object costs at least."""
FENCE = "```"


def json_values(text: str) -> list[JSON]:
    """Return the JSON values of an answer: the text itself, or else the objects inside it, in order.

    Raises:
        NotJson: There is none.
    """
    text = without_mark(text).strip()
    if not text:
        raise NotJson("is empty")
    if len(text) > MAX_SIZE:
        raise NotJson(f"is longer than {MAX_SIZE // 1024 // 1024} MiB")
    try:
        return [parse_json(_without_fence(text))]
    except NotJson:
        found = deque(_objects(text), MAX_VALUES) if len(text) <= MAX_PROSE else ()
        if values := [value for value in found if is_storable(value)]:
            return values
        raise


def _without_fence(text: str) -> str:
    """Return the text between the fences of Markdown, if it begins and ends with one."""
    first, _, rest = text.partition("\n")
    if first.rstrip().lower() in (FENCE, f"{FENCE}json") and rest.endswith(FENCE):
        return rest.removesuffix(FENCE)
    return text


class _Prose(str):
    """A text whose errors have no line and no column.

    Python's `JSONDecodeError` counts the lines before an error. For thousands of errors in one text, that
    would take seconds.
    """

    __slots__ = ()

    def count(self, *_: object) -> int:
        return 0

    def rfind(self, *_: object) -> int:
        return -1


def _objects(text: str) -> Iterator[JSON]:
    """Yield the objects in prose. The work is linear: wasted characters are counted."""
    decoder, text = json.JSONDecoder(parse_constant=refuse_constant), _Prose(text)
    at, wasted = 0, 0
    while wasted <= MAX_WASTED and (start := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            wasted, at = wasted + error.pos - start + COST_OF_BRACE, start + 1
        except (ValueError, RecursionError):  # NaN, a number that is too long, too many levels
            wasted, at = wasted + len(text) - start, start + 1
        else:
            yield value


def refuse_constant(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's parser accepts. Raises ValueError."""
    raise ValueError(f"{constant} is no JSON")
