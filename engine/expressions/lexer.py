"""Where a template's expressions begin and end, and which names they use. Pure text: nothing is evaluated here.

minijinja checks the syntax; this finds what it does not tell: whether a text is one expression, where a name stands.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

# A string that never closes goes to the end: looked for again from each of its quotes, it would cost its length squared.
_SOLIDS = r"""'(?:[^'\\]|\\.)*+'?|"(?:[^"\\]|\\.)*+"?|[^\W\d]\w*|\d[\d_]*(?:\.\d+)?"""
_SOLID = re.compile(_SOLIDS + r"|\S", re.DOTALL)
_TOKEN = re.compile(_SOLIDS + r"|\s+|.", re.DOTALL)
_OPENING = re.compile(r"\{\{|\{%|\{#")
_HIDING = re.compile(r"['\"{]")
_END_OF_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_NEWLINE = re.compile(r"\n")
_WORD = re.compile(r"[-+]?\s*(\w+)")


MAX_KNOWN = 2_000
"""Characters of a text whose reading is kept: a node renders the same ones at each visit."""
FEW = 4
"""Places that are cheaper to find without an index of all lines."""


class TemplatePart(StrEnum):
    EXPRESSION = "{{"
    STATEMENT = "{%"


_CODE = {"{{": (TemplatePart.EXPRESSION, "}}"), "{%": (TemplatePart.STATEMENT, "%}")}


class Segment(NamedTuple):
    """Code inside a template: `start` and `end` are of what stands between the braces, `outer_end` is past them."""

    part: TemplatePart
    start: int
    end: int
    outer_end: int


class LexerToken(NamedTuple):
    text: str
    start: int


def has_code(text: str) -> bool:
    return "{" in text and _OPENING.search(text) is not None


def segments(text: str) -> Iterator[Segment]:
    """The expressions and statements of a template, in order; one that never closes ends it."""
    at = 0
    while opening := _OPENING.search(text, at):
        start = opening.end()
        if opening.group() == "{#":
            at = text.find("#}", start) + 2
            if at == 1:
                return
            continue
        part, closer = _CODE[opening.group()]
        end = _closing(text, start, closer)
        if end < 0:
            return
        yield Segment(part, start, end, end + 2)
        at = end + 2
        if part is TemplatePart.STATEMENT and statement_word(text[start:end]) == "raw":
            over = _END_OF_RAW.search(text, at)
            at = over.end() if over else len(text)


def statement_word(code: str) -> str:
    """`for` of ` for x in y `."""
    word = _WORD.match(code)
    return word.group(1) if word else ""


def is_whole_expression(text: str) -> bool:
    """Whether a text is one `{{ … }}` and nothing else, so that its value keeps its type."""
    return _known_whole(text) if len(text) <= MAX_KNOWN else _is_whole_expression(text)


def _is_whole_expression(text: str) -> bool:
    if not (text.startswith("{{") and text.endswith("}}")):
        return False
    first = next(segments(text), None)
    return first is not None and first.outer_end == len(text)


def as_expression(text: str) -> str:
    """`{{a.b}} > 1` as ` (a.b)  > 1`: the braces become parentheses of the same width, so that positions stay."""
    if "{{" not in text:
        return text
    return _known_expression(text) if len(text) <= MAX_KNOWN else _as_expression(text)


def _as_expression(text: str) -> str:
    out: list[str] = []
    open_braces: list[str] = []
    skip_to = 0
    for token in tokens(text, 0, len(text)):
        if token.start < skip_to:
            continue
        two, nested = text[token.start : token.start + 2], open_braces[-1] if open_braces else ""
        if two == "{{":
            trim = text[token.start + 2 : token.start + 3] in ("-", "+")
            open_braces.append("{{")
            out.append(" ( " if trim else " (")
            skip_to = token.start + 2 + trim
        elif nested == "{{" and two == "}}":
            open_braces.pop()
            out.append(") ")
            skip_to = token.start + 2
        elif nested == "{{" and text[token.start : token.start + 3] == "-}}":
            out.append(" ")
        else:
            if token.text == "{":
                open_braces.append("{")
            elif token.text == "}" and nested == "{":
                open_braces.pop()
            out.append(token.text)
    return "".join(out)


_known_whole = lru_cache(maxsize=4096)(_is_whole_expression)
_known_expression = lru_cache(maxsize=4096)(_as_expression)


def tokens(text: str, start: int, end: int) -> Iterator[LexerToken]:
    """Strings, names, numbers and single signs; white space left in, so that the tokens put together are the text."""
    for match in _TOKEN.finditer(text, start, end):
        yield LexerToken(match.group(), match.start())


def without_slices(code: str) -> str:
    """`a[b:c]` as `a[b or c]`: minijinja does not tell which names a slice is made of. For looking at names alone."""
    if ":" not in code or "[" not in code:
        return code
    out: list[str] = []
    open_brackets: list[str] = []
    before = ""
    for token in tokens(code, 0, len(code)):
        sign = token.text
        if before == ":" and open_brackets[-1:] == ["["] and sign in ("]", ":"):
            out.append(" 0 ")
        if sign == ":" and open_brackets[-1:] == ["["]:
            out.append(" 0 or " if before == "[" else " or ")
        else:
            out.append(sign)
        if sign in ("[", "{", "("):
            open_brackets.append(sign)
        elif sign in ("]", "}", ")") and open_brackets:
            open_brackets.pop()
        before = before if sign.isspace() else sign
    return "".join(out)


def solid(code: str) -> list[str]:
    """The tokens that are no white space."""
    return _SOLID.findall(code)


def place_of(code: str, index: int) -> int:
    """Where the solid token of this index stands."""
    return next(islice(_SOLID.finditer(code), index, None)).start()


def count_solid(code: str, most: int) -> int:
    """How many tokens there are; `most` if they are as many or more."""
    return sum(1 for _ in islice(_SOLID.finditer(code), most))


def _closing(text: str, start: int, closer: str) -> int:
    """Where the code that starts at `start` ends: strings and inner braces are skipped. -1 if it never does."""
    end = text.find(closer, start)
    if end < 0 or not _HIDING.search(text, start, end):
        return end
    depth = 0
    for match in _SOLID.finditer(text, start):
        sign = match.group()
        if depth == 0 and sign == closer[0] and text.startswith(closer, match.start()):
            return match.start()
        if sign == "{":
            depth += 1
        elif sign == "}" and depth:
            depth -= 1
    return -1


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a place counted in characters."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class Lines:
    """The same for many places in one text."""

    def __init__(self, text: str) -> None:
        self._text, self._asked = text, 0
        self._starts: list[int] = []

    def position(self, offset: int) -> tuple[int, int]:
        self._asked += 1
        if self._asked <= FEW:
            return position(self._text, offset)
        if not self._starts:
            self._starts = [0, *(match.end() for match in _NEWLINE.finditer(self._text))]
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1
