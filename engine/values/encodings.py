"""The forms in which a secret can occur in a text: plain, JSON, URL, HTML, Python, base64, hex.

A deliberate transformation of a secret (reversed, spelled out, hashed) is not covered, because the
author of a workflow has the right to use its secrets. The module has no state.
"""

import base64
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

PART_LENGTH = 20
"""Characters of the beginning or end of a long form that are searched for, because messages (such
as those of pydantic) shorten a value in the middle.
"""
EDGE_LENGTH = 8
"""Characters of a form that are searched for at the beginning and end of a text, because the text
may be cut within the form.
"""
MIN_PARTIAL = 16
"""Forms shorter than this are searched for as a whole only, since a half may be an ordinary
word.
"""
MAX_LINES = 100
"""A value with at most this many lines is searched for line by line too, because logs split it."""
_HEX = re.compile(r"%[0-9A-F]{2}")
# Characters that Python, browsers and HTTP clients do not escape in a URL.
_URL_SAFE = ("", "/", "!'()*", "!$&'()*+,;=:@/", ";,/?:@&=+$!'()*#", "!$'()*,;:@/?")
# Characters that PHP, Go and JavaScript escape in JSON although they need not.
_JSON_ESCAPES: tuple[dict[str, str], ...] = (
    {"/": "\\/"},
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"},
    {"'": "\\u0027", '\\"': "\\u0022", "<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "+": "\\u002b"},
)

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SecretForm:
    """One form of a secret.

    `part` is the number of characters of its beginning or end that are treated as the secret.
    """

    text: str
    part: int

    @classmethod
    def of(cls, text: str) -> "SecretForm":
        size = len(text)
        return cls(text, size if size < MIN_PARTIAL else min(PART_LENGTH, max(size * 2 // 3, 12)))

    def spans(self, text: str) -> Iterator[Span]:
        """Find the form, and long beginnings and ends of it, in a text."""
        head, tail = self.text[: self.part], self.text[-self.part :]
        at = text.find(head)
        while at >= 0:
            end = at + _common_length(text[at : at + len(self.text)], self.text)
            yield at, end
            at = text.find(head, end)
        if self.part == len(self.text):
            return
        at = text.find(tail)
        while at >= 0:
            end = at + self.part
            before = text[max(end - len(self.text), 0) : end]
            yield end - _common_length(before[::-1], self.text[::-1]), end
            at = text.find(tail, end)

    def edges(self, text: str, edge: int) -> Iterator[Span]:
        """Find the beginning of the form at the end of a text, and its end at the beginning.

        Args:
            text: The text to search.
            edge: The least number of characters.
        """
        size = len(text)
        for at in _find_all(self.text, text[-edge:]):
            if text.endswith(self.text[: at + edge]):
                yield size - at - edge, size
        for at in _find_all(self.text, text[:edge]):
            if text.startswith(self.text[at:]):
                yield 0, len(self.text) - at

    def partial_start(self, text: str) -> int:
        """Find where the end of a text may be the beginning of the form.

        Returns:
            The first such index, or the length of the text.
        """
        at = text.find(self.text[0], max(len(text) - len(self.text) + 1, 0))
        while at >= 0 and not self.text.startswith(text[at:]):
            at = text.find(self.text[0], at + 1)
        return len(text) if at < 0 else at


@dataclass(frozen=True, slots=True)
class SecretEncodings:
    """All forms of one secret.

    `grams` are all substrings of `edge` characters of the forms, for a quick test.
    """

    forms: tuple[SecretForm, ...]
    edge: int
    grams: frozenset[str]

    @classmethod
    def of(cls, value: str) -> "SecretEncodings":
        """Compute the forms of a value, without the white space around it, which senders remove."""
        value = value.strip()
        edge = EDGE_LENGTH if len(value) >= MIN_PARTIAL else max(len(value) // 2, 4)
        texts = list(dict.fromkeys(_texts(value)))
        grams = frozenset(text[at : at + edge] for text in texts for at in range(len(text) - edge + 1))
        return cls(tuple(SecretForm.of(text) for text in texts), edge, grams)

    def spans(self, text: str) -> list[Span]:
        """Find all forms in a text. The spans may overlap."""
        return [span for form in self.forms for span in form.spans(text)]

    def edges(self, text: str) -> list[Span]:
        """Find forms that are cut by the beginning or end of a text."""
        if text[: self.edge] not in self.grams and text[-self.edge :] not in self.grams:
            return []
        return [span for form in self.forms for span in form.edges(text, self.edge)]


def _texts(value: str) -> Iterator[str]:
    yield value
    if len(value) >= MIN_PARTIAL:
        yield value.lower()  # the host of a URL is written in lower case
    json_texts = list(dict.fromkeys(_json(value)))
    yield from json_texts
    for text in json_texts[:2]:
        yield from _json(text)  # JSON inside JSON
    yield from (html.escape(value), html.escape(value, quote=False))
    yield from (repr(value)[1:-1], repr(value.encode())[2:-1], value.encode().decode("latin-1"))
    for text in (value, *json_texts[:1]):
        yield from _url(text)
        yield from _base64(text.encode())
        yield from (text.encode().hex(), text.encode().hex().upper())
    lines = [line.strip() for line in value.splitlines()]
    if 1 < len(lines) <= MAX_LINES:
        yield from (line for line in lines if len(line) >= EDGE_LENGTH)


def _json(value: str) -> Iterator[str]:
    for ensure_ascii in (True, False):
        text = json.dumps(value, ensure_ascii=ensure_ascii)[1:-1]
        yield text
        for escapes in _JSON_ESCAPES:
            escaped = text
            for plain, escape in escapes.items():
                escaped = escaped.replace(plain, escape)
            yield escaped


def _url(value: str) -> Iterator[str]:
    for text in (quote_plus(value), *(quote(value, safe) for safe in _URL_SAFE)):
        yield text
        yield _HEX.sub(lambda code: code[0].lower(), text)


def _base64(value: bytes) -> Iterator[str]:
    """Encode a value alone and inside a longer text.

    Inside a longer text, the characters that depend on the neighbors are left out, for each of the
    three offsets that a byte can have in a group of base64.
    """
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(value).decode().rstrip("=")
        for before in range(3):
            bits = 8 * (before + len(value))
            yield encode(bytes(before) + value).decode()[(0, 2, 3)[before] : bits // 6]


def _common_length(one: str, other: str) -> int:
    """Return the length of the common beginning of two texts."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _find_all(text: str, part: str) -> Iterator[int]:
    """Find every index of a part in a text, overlapping ones included."""
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)
