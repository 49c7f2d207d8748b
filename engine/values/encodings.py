"""The forms in which a secret can occur in a text: plain, JSON, URL, HTML, Python, base64, hex.

A transformation of a secret by a template is found by its result (engine/values/redaction.py). One
by other code (reversed, spelled out, hashed) is not covered, because the author of a workflow has
the right to use its secrets. The module has no state.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote, unquote_plus

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
MAX_CANDIDATES = 64
"""Indexes of a stream's text at which the beginning of a form is compared with the rest."""
SEPARATOR = "\0"
"""Separates texts that are searched together. No text of a run contains it."""
_HEX = re.compile(r"%[0-9A-F]{2}")
_END_OF_HOST = re.compile(r"[/?#\\]")
_ESCAPE = re.compile(r"(%[0-9A-Fa-f]{2}|\\[bfnrt]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4})\Z")
"""An escaped character of a URL, of JSON or of Python at the end of a text."""
# Characters that Python, browsers and HTTP clients do not escape in a URL. The last two are the sets of
# the query and of the path in the URL standard of WHATWG, which httpx follows.
_URL_SAFE = (
    "", "/", "!'()*", "!$&'()*+,;=:@/", ";,/?:@&=+$!'()*#", "!$'()*,;:@/?",
    "!$%&'()*+,/:;=?@[\\]^`{|}", "!$%&'()*+,/:;=@[\\]^|",
)  # fmt: skip
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

    Searching takes time linear in the text, also if form and text repeat the same characters.

    Attributes:
        text: The form.
        part: The number of characters of its beginning or end that are treated as the secret.
        head: The same at the end of a text, which may be cut within the form.
        tail: The same at the beginning of a text.
        is_word: Whether it is found only where no letter or digit is next to it. The last letter of
            an escaped character, as in `\\n` and `%22`, is none.
    """

    text: str
    part: int
    head: str
    tail: str
    is_word: bool = False

    @classmethod
    def of(cls, text: str, edge: int) -> "SecretForm":
        size = len(text)
        part = size if size < MIN_PARTIAL else min(PART_LENGTH, max(size * 2 // 3, 12))
        return cls(text, part, text[:edge], text[-edge:])

    @classmethod
    def word(cls, text: str) -> "SecretForm":
        return cls(text, len(text), text, text, is_word=True)

    def spans(self, text: str, *, edges: bool) -> list[Span]:
        """Find the form, and long beginnings and ends of it, in a text.

        Args:
            text: One text, or several ones joined by SEPARATOR.
            edges: Whether each text may begin or end within the form.
        """
        if self.is_word:
            return [*self._words(text)]
        spans = [*self._beginnings(text, edges)] if self.head in text else []
        if (edges or self.part < len(self.text)) and self.tail in text:
            spans += self._endings(text, edges)
        return spans

    def _words(self, text: str) -> Iterator[Span]:
        for at in _find_all(text, self.text):
            end = at + len(self.text)
            is_inside = text[at - 1 : at].isalnum() and not _ESCAPE.search(text[max(at - 6, 0) : at])
            if not (is_inside or text[end : end + 1].isalnum()):
                yield at, end

    def _beginnings(self, text: str, edges: bool) -> Iterator[Span]:
        budget = _budget(text)
        at = text.find(self.head)
        while at >= 0:
            size = _common_beginning(text, at, self.text)
            end, following = at + size, at + 1
            if size >= self.part:
                budget -= size
                following = following if budget > 0 else end
            if size >= self.part or (edges and text[end : end + 1] in ("", SEPARATOR)):
                yield at, end
            at = text.find(self.head, following)

    def _endings(self, text: str, edges: bool) -> Iterator[Span]:
        budget, covered = _budget(text), 0
        for at in _find_all(text, self.tail):
            end = at + len(self.tail)
            limit = len(self.text) if budget > 0 else max(self.part, end - covered)
            size = _common_ending(text, end, self.text, limit)
            if size >= self.part:
                budget, covered = budget - size, end
            start = end - size
            if size >= self.part or (edges and (start == 0 or text[start - 1] == SEPARATOR)):
                yield start, end

    def partial_start(self, text: str) -> int:
        """Find where the end of a text may be the beginning of the form.

        Returns:
            The first such index, or the length of the text. It may be too low for a text that
            repeats the first characters of the form many times.
        """
        size = len(text)
        first = text.find(self.text[0], max(size - len(self.text) + 1, 0))
        if first < 0:
            return size
        head = self.text[:EDGE_LENGTH]
        for count, at in enumerate(_find_all(text, head, first)):
            if count == MAX_CANDIDATES or self.text.startswith(text[at:]):
                return at
        short = range(max(size - EDGE_LENGTH + 1, first), size)
        return next((at for at in short if self.text.startswith(text[at:])), size)


@dataclass(frozen=True, slots=True)
class SecretEncodings:
    """All forms of one secret."""

    forms: tuple[SecretForm, ...]

    @classmethod
    def of(cls, value: str) -> "SecretEncodings":
        """Compute the forms of a value, without the white space around it, which senders remove."""
        value = value.strip()
        edge = EDGE_LENGTH if len(value) >= MIN_PARTIAL else max(len(value) // 2, 4)
        return cls(tuple(SecretForm.of(text, edge) for text in dict.fromkeys(_texts(value))))

    @classmethod
    def word(cls, value: str) -> "SecretEncodings":
        """Return a value that is only found as a whole word, for values of a few characters."""
        return cls((SecretForm.word(value),))

    def spans(self, text: str, *, edges: bool) -> list[Span]:
        """Find all forms in a text. The spans may overlap. See SecretForm.spans."""
        return [span for form in self.forms for span in form.spans(text, edges=edges)]


def _texts(value: str) -> Iterator[str]:
    yield value
    yield from _host_forms(value)
    # A value that is part of a URL as it is, as the server reads it.
    yield from (text for text in (unquote(value), unquote_plus(value)) if len(text) >= EDGE_LENGTH)
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


def _host_forms(value: str) -> Iterator[str]:
    """Write a value as the host of a URL: in lower case, and cut where a path or a query begins."""
    for text in (value, _END_OF_HOST.split(value)[0]):
        if len(text) >= EDGE_LENGTH:
            yield text.lower()


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


def _budget(text: str) -> int:
    """Return how many characters of overlapping finds are compared in a text."""
    return len(text) + 64 * 1024


def _common_beginning(text: str, at: int, form: str) -> int:
    """Return how many characters of a form the text has from an index on."""
    if text.startswith(form, at):
        return len(form)
    limit = min(len(form), len(text) - at)
    return _gallop(limit, lambda low, high: text[at + low : at + high] == form[low:high])


def _common_ending(text: str, end: int, form: str, limit: int) -> int:
    """Return how many characters of the end of a form the text has before an index."""
    size, limit = len(form), min(len(form), end, limit)
    if limit == size and text.startswith(form, end - size):
        return size
    return _gallop(limit, lambda low, high: text[end - high : end - low] == form[size - high : size - low])


def _gallop(limit: int, is_equal: Callable[[int, int], bool]) -> int:
    """Return the largest number up to a limit for which everything below is equal.

    Exponential search (Bentley, Yao 1976), because slices are compared faster than characters, and
    in time linear in the result.
    """
    size, step = 0, 32
    while step:
        if size + step <= limit and is_equal(size, size + step):
            size, step = size + step, step * 2
        else:
            step //= 2
    return size


def _find_all(text: str, part: str, start: int = 0) -> Iterator[int]:
    """Find every index of a part in a text, overlapping ones included."""
    at = text.find(part, start)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)
