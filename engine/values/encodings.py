"""The forms in which a secret may come back: as it is, and as JSON, URLs, HTML, Python, base64 and hex write it. Pure.

What is done to a value on purpose (reversed, spelled out, hashed) is no form of it: who writes a workflow may use its secrets.
"""

import base64
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

PART = 20
"""Characters of a long form's beginning or end that give it away, where it was cut: pydantic's messages do that."""
EDGE = 8
"""As many are enough where a text begins or ends with them: whoever cut the text there, cut through the form."""
WHOLE = 16
"""Shorter forms than this are looked for as a whole: half of one may be a word."""
MAX_LINES = 100
"""Lines of a value that are looked for one by one, as logs have them."""
_HEX = re.compile(r"%[0-9A-F]{2}")
# What Python, browsers and HTTP clients leave as it is in a URL.
_URL_SAFE = ("", "/", "!'()*", "!$&'()*+,;=:@/", ";,/?:@&=+$!'()*#", "!$'()*,;:@/?")
# What PHP, Go and JavaScript write in JSON beyond what they have to.
_JSON_MORE: tuple[dict[str, str], ...] = (
    {"/": "\\/"},
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"},
    {"'": "\\u0027", '\\"': "\\u0022", "<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "+": "\\u002b"},
)

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SecretForm:
    """One form of a value, and how much of it gives it away."""

    text: str
    part: int

    @classmethod
    def of(cls, text: str) -> "SecretForm":
        size = len(text)
        return cls(text, size if size < WHOLE else min(PART, max(size * 2 // 3, 12)))

    def spans(self, text: str) -> Iterator[Span]:
        """Where the form stands in a text, and long beginnings and ends of it."""
        head, tail = self.text[: self.part], self.text[-self.part :]
        at = text.find(head)
        while at >= 0:
            end = at + _shared(text[at : at + len(self.text)], self.text)
            yield at, end
            at = text.find(head, end)
        if self.part == len(self.text):
            return
        at = text.find(tail)
        while at >= 0:
            end = at + self.part
            before = text[max(end - len(self.text), 0) : end]
            yield end - _shared(before[::-1], self.text[::-1]), end
            at = text.find(tail, end)

    def edges(self, text: str, edge: int) -> Iterator[Span]:
        """The beginning of the form at the end of the text, and its end at the beginning; `edge` characters at least."""
        size = len(text)
        for at in _all(self.text, text[-edge:]):
            if text.endswith(self.text[: at + edge]):
                yield size - at - edge, size
        for at in _all(self.text, text[:edge]):
            if text.startswith(self.text[at:]):
                yield 0, len(self.text) - at

    def begins(self, text: str) -> int:
        """From where on the text may be the beginning of the form, going on in a text to come; its length if nowhere."""
        at = text.find(self.text[0], max(len(text) - len(self.text) + 1, 0))
        while at >= 0 and not self.text.startswith(text[at:]):
            at = text.find(self.text[0], at + 1)
        return len(text) if at < 0 else at


@dataclass(frozen=True, slots=True)
class SecretEncodings:
    """All forms of one value, and every `edge` characters that stand in them."""

    forms: tuple[SecretForm, ...]
    edge: int
    grams: frozenset[str]

    @classmethod
    def of(cls, value: str) -> "SecretEncodings":
        """White space around a value is no part of it: senders leave it out."""
        value = value.strip()
        edge = EDGE if len(value) >= WHOLE else max(len(value) // 2, 4)
        texts = list(dict.fromkeys(_texts(value)))
        grams = frozenset(text[at : at + edge] for text in texts for at in range(len(text) - edge + 1))
        return cls(tuple(SecretForm.of(text) for text in texts), edge, grams)

    def spans(self, text: str) -> list[Span]:
        return [span for form in self.forms for span in form.spans(text)]

    def edges(self, text: str) -> list[Span]:
        if text[: self.edge] not in self.grams and text[-self.edge :] not in self.grams:
            return []  # as nearly always
        return [span for form in self.forms for span in form.edges(text, self.edge)]


def _texts(value: str) -> Iterator[str]:
    yield value
    if len(value) >= WHOLE:
        yield value.lower()  # as the host of a URL is written
    written = list(dict.fromkeys(_json(value)))
    yield from written
    for once in written[:2]:
        yield from _json(once)  # JSON inside JSON
    yield from (html.escape(value), html.escape(value, quote=False))
    yield from (repr(value)[1:-1], repr(value.encode())[2:-1], value.encode().decode("latin-1"))
    for text in (value, *written[:1]):
        yield from _url(text)
        yield from _base64(text.encode())
        yield from (text.encode().hex(), text.encode().hex().upper())
    lines = [line.strip() for line in value.splitlines()]
    if 1 < len(lines) <= MAX_LINES:
        yield from (line for line in lines if len(line) >= EDGE)


def _json(value: str) -> Iterator[str]:
    for ascii_alone in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_alone)[1:-1]
        yield text
        for more in _JSON_MORE:
            changed = text
            for plain, escaped in more.items():
                changed = changed.replace(plain, escaped)
            yield changed


def _url(value: str) -> Iterator[str]:
    for text in (quote_plus(value), *(quote(value, safe) for safe in _URL_SAFE)):
        yield text
        yield _HEX.sub(lambda code: code[0].lower(), text)


def _base64(value: bytes) -> Iterator[str]:
    """By itself, and inside something longer: what does not depend on its neighbours, for each place it can have there."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(value).decode().rstrip("=")
        for before in range(3):
            bits = 8 * (before + len(value))
            yield encode(bytes(before) + value).decode()[(0, 2, 3)[before] : bits // 6]


def _shared(one: str, other: str) -> int:
    """How far two texts begin alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _all(text: str, part: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)
