"""Parse JSON text that comes from outside: from HTTP, from models, from tools and from templates.

A byte order mark is skipped, and a whole number that does not fit into 64 bits is an error, because
a parser that makes a float of it changes the number without a word. Pure.
"""

import codecs
import json
import re
from contextlib import suppress

import orjson

from engine.types import JSON
from engine.values.storable import INT_MAX, INT_MIN

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARK = "\ufeff"
_LONG_NUMBER = re.compile(r"\d{19}")
"""A text without as many digits in a row has no whole number beyond 64 bits."""
MAX_SHOWN = 24
"""Characters of a number that a message shows."""


class NotJson(ValueError):
    """The text cannot be parsed. The message continues a sentence such as "the answer …"."""


def parse_json(text: str | bytes) -> JSON:
    """Parse a JSON text. Bytes are UTF-8, or what their byte order mark says.

    Raises:
        NotJson: It is not JSON, or it contains a whole number beyond 64 bits.
    """
    text = without_mark(text)
    if _LONG_NUMBER.search(text):
        _check_numbers(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJson(f"is no JSON ({_fault(error)})") from error


def _fault(error: orjson.JSONDecodeError) -> str:
    if error.msg.startswith("unexpected end"):
        return "it ends too early"
    if not error.doc:
        return "it is empty"
    return f"what is at line {error.lineno}, column {error.colno} is not expected there"


def without_mark(text: str | bytes) -> str:
    """Decode a text, and remove a byte order mark from its start.

    Raises:
        NotJson: The bytes are not text.
    """
    if isinstance(text, str):
        return text.removeprefix(_MARK)
    encoding = next((name for mark, name in _MARKS if text.startswith(mark)), "utf-8")
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not {encoding.removesuffix('-sig')}"
        raise NotJson(f"is no JSON ({reason})") from error


def _check_numbers(text: str) -> None:
    """Check every whole number of a text. Raises NotJson."""
    try:
        with suppress(json.JSONDecodeError):  # orjson reports what is wrong with the text
            json.loads(text, parse_int=_check_number)
    except RecursionError as error:
        raise NotJson("is nested too deeply") from error


def _check_number(digits: str) -> None:
    if len(digits) > MAX_SHOWN or not INT_MIN <= int(digits) <= INT_MAX:
        shown = digits if len(digits) <= MAX_SHOWN else f"{digits[:MAX_SHOWN]}…"
        raise NotJson(f"contains the whole number {shown}, which is beyond 64 bits: send it as a text")
