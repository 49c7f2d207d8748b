"""Find the expressions, statements and tokens in the text of a template.

minijinja checks the syntax. This module finds what minijinja does not report: whether a text is one
expression, and the place of a name. Nothing is evaluated here.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

# A string without an end goes to the end of the text. Otherwise the search would start again at
# each of its quotes, and cost the square of its length.
_TOKENS = r"""'(?:[^'\\]|\\.)*+'?|"(?:[^"\\]|\\.)*+"?|[^\W\d]\w*|\d[\d_]*(?:\.\d+)?"""
_TOKEN = re.compile(_TOKENS + r"|\S", re.DOTALL)
_TOKEN_OR_SPACE = re.compile(_TOKENS + r"|\s+|.", re.DOTALL)
_OPENING = re.compile(r"\{\{|\{%|\{#")
_STRING_OR_BRACE = re.compile(r"['\"{]")
_END_OF_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_EMPTY = re.compile(r"\{\{[-+]?\s*[-+]?\}\}")
_NEWLINE = re.compile(r"\n")
_WORD = re.compile(r"[-+]?\s*(\w+)")


OPERATOR_WORDS = frozenset({"and", "or", "not", "in", "is", "if", "else"})
MAX_CACHED = 2_000
"""Characters of a text whose result is cached, because a node renders the same texts at each
visit.
"""
MAX_UNINDEXED = 4
"""Positions in one text that are cheaper to compute without an index of its lines."""


class TemplatePart(StrEnum):
    """The kind of a piece of code, by its opening braces."""

    EXPRESSION = "{{"
    STATEMENT = "{%"


_CODE = {"{{": (TemplatePart.EXPRESSION, "}}"), "{%": (TemplatePart.STATEMENT, "%}")}


class Segment(NamedTuple):
    """A piece of code in a template.

    `start` and `end` are the bounds of the code between the braces. `outer_end` is the index after
    the closing braces.
    """

    part: TemplatePart
    start: int
    end: int
    outer_end: int


class LexerToken(NamedTuple):
    """A token and its index in the text."""

    text: str
    start: int


def has_code(text: str) -> bool:
    """Tell whether a text contains an expression, a statement or a comment."""
    return "{" in text and _OPENING.search(text) is not None


def segments(text: str) -> Iterator[Segment]:
    """Iterate over the expressions and statements of a template, up to one without an end."""
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
            endraw = _END_OF_RAW.search(text, at)
            at = endraw.end() if endraw else len(text)


def statement_word(code: str) -> str:
    """Return the first word of a statement: `for` of ` for x in y `."""
    word = _WORD.match(code)
    return word.group(1) if word else ""


def is_whole_expression(text: str) -> bool:
    """Tell whether a text is one `{{ … }}` and nothing else, so that its value keeps its type."""
    return _cached_is_whole(text) if len(text) <= MAX_CACHED else _is_whole_expression(text)


def _is_whole_expression(text: str) -> bool:
    if not (text.startswith("{{") and text.endswith("}}")):
        return False
    first = next(segments(text), None)
    return first is not None and first.outer_end == len(text)


def as_expression(text: str) -> str:
    """Replace the braces of an expression by parentheses: `{{a.b}} > 1` becomes ` (a.b)  > 1`.

    The parentheses have the same width, so that positions do not change.
    """
    if "{{" not in text:
        return text
    return _cached_expression(text) if len(text) <= MAX_CACHED else _as_expression(text)


def _as_expression(text: str) -> str:
    output: list[str] = []
    open_braces: list[str] = []
    skip_to = 0
    for token in tokens(text, 0, len(text)):
        if token.start < skip_to:
            continue
        two, nested = text[token.start : token.start + 2], open_braces[-1] if open_braces else ""
        if two == "{{":
            trim = text[token.start + 2 : token.start + 3] in ("-", "+")
            open_braces.append("{{")
            output.append(" ( " if trim else " (")
            skip_to = token.start + 2 + trim
        elif nested == "{{" and two == "}}":
            open_braces.pop()
            output.append(") ")
            skip_to = token.start + 2
        elif nested == "{{" and text[token.start : token.start + 3] == "-}}":
            output.append(" ")
        else:
            if token.text == "{":
                open_braces.append("{")
            elif token.text == "}" and nested == "{":
                open_braces.pop()
            output.append(token.text)
    return "".join(output)


_cached_is_whole = lru_cache(maxsize=4096)(_is_whole_expression)
_cached_expression = lru_cache(maxsize=4096)(_as_expression)


def tokens(text: str, start: int, end: int) -> Iterator[LexerToken]:
    """Iterate over strings, names, numbers, white space and single characters.

    The texts of all tokens together are the text.
    """
    for match in _TOKEN_OR_SPACE.finditer(text, start, end):
        yield LexerToken(match.group(), match.start())


def without_slices(code: str) -> str:
    """Replace slices by expressions with the same names: `a[b:c]` becomes `a[b or c]`.

    minijinja does not report the names inside of slices. The result is not meant to be evaluated.
    """
    if ":" not in code or "[" not in code:
        return code
    output: list[str] = []
    open_brackets: list[str] = []
    before = ""
    for token in tokens(code, 0, len(code)):
        symbol = token.text
        if before == ":" and open_brackets[-1:] == ["["] and symbol in ("]", ":"):
            output.append(" 0 ")
        if symbol == ":" and open_brackets[-1:] == ["["]:
            output.append(" 0 or " if before == "[" else " or ")
        else:
            output.append(symbol)
        if symbol in ("[", "{", "("):
            open_brackets.append(symbol)
        elif symbol in ("]", "}", ")") and open_brackets:
            open_brackets.pop()
        before = before if symbol.isspace() else symbol
    return "".join(output)


def token_texts(code: str) -> list[str]:
    """Return the texts of all tokens except white space."""
    return _TOKEN.findall(code)


def token_start(code: str, index: int) -> int:
    """Return the start of a token of `token_texts` by its index."""
    return next(islice(_TOKEN.finditer(code), index, None)).start()


def count_tokens(code: str, limit: int) -> int:
    """Count the tokens of `token_texts`, up to a limit."""
    return sum(1 for _ in islice(_TOKEN.finditer(code), limit))


def _closing(text: str, start: int, closer: str) -> int:
    """Find the end of the code that starts at `start`, or -1.

    Strings and inner braces are skipped.
    """
    end = text.find(closer, start)
    if end < 0 or not _STRING_OR_BRACE.search(text, start, end):
        return end
    depth = 0
    for match in _TOKEN.finditer(text, start):
        symbol = match.group()
        if depth == 0 and symbol == closer[0] and text.startswith(closer, match.start()):
            return match.start()
        if symbol == "{":
            depth += 1
        elif symbol == "}" and depth:
            depth -= 1
    return -1


def empty_expression(text: str, *, expression: bool) -> int | None:
    """Return the index of a `{{ }}` without an expression; None if there is none."""
    if not _EMPTY.search(text):
        return None
    if expression:
        found = (token.start for token in tokens(text, 0, len(text)) if token.text == "{")
        return next((start for start in found if _EMPTY.match(text, start)), None)
    starts = (segment.start - 2 for segment in segments(text) if segment.part is TemplatePart.EXPRESSION)
    return next((start for start in starts if _EMPTY.match(text, start)), None)


def value_before_braces(text: str) -> int | None:
    """Return the index of a `{{` directly after a value, which would be a call; None if there is none.

    So `Dear {{ name }}` and `{{ a }}{{ b }}` are no expressions.
    """
    before = ["", ""]
    skip_to = 0
    for token in tokens(text, 0, len(text)) if "{{" in text else ():
        if token.text.isspace() or token.start < skip_to:
            continue
        two = text[token.start : token.start + 2]
        if two == "{{" and _ends_value(*before):
            return token.start
        is_end = two == "}}"
        skip_to = token.start + 2 * is_end
        before = [before[1], ")" if is_end else token.text]
    return None


def _ends_value(before: str, last: str) -> bool:
    """Tell whether two tokens end a value, and are not an operator such as `not` or `is even`."""
    is_word = last[:1].isalnum() or last[:1] == "_"
    is_operator = last in OPERATOR_WORDS or before in ("is", "not", "|")
    return (is_word and not is_operator) or last in (")", "]") or last[:1] in ("'", '"')


def unclosed_braces(text: str, *, expression: bool) -> int | None:
    """Return the index of a `{{`, `{%` or `{#` that has no end; None if there is none."""
    if expression:
        return _unclosed_in_expression(text)
    at = 0
    for segment in segments(text):
        at = segment.outer_end
        if segment.part is TemplatePart.STATEMENT and statement_word(text[segment.start : segment.end]) == "raw":
            endraw = _END_OF_RAW.search(text, at)
            at = endraw.end() if endraw else len(text)
    while opening := _OPENING.search(text, at):
        end = text.find("#}", opening.end()) if opening.group() == "{#" else -1
        if end < 0:
            return opening.start()
        at = end + 2
    return None


def _unclosed_in_expression(text: str) -> int | None:
    opened: list[int] = []
    skip_to = 0
    for token in tokens(text, 0, len(text)):
        two = text[token.start : token.start + 2]
        if token.start >= skip_to and two in ("{{", "}}"):
            skip_to = token.start + 2
            if two == "{{":
                opened.append(token.start)
            elif opened:
                opened.pop()
    return opened[0] if opened else None


def position(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, both from 1, of an index in a text."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class LineIndex:
    """Computes line and column of many indexes in one text."""

    def __init__(self, text: str) -> None:
        self._text, self._calls = text, 0
        self._starts: list[int] = []

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column, both from 1."""
        self._calls += 1
        if self._calls <= MAX_UNINDEXED:
            return position(self._text, offset)
        if not self._starts:
            self._starts = [0, *(match.end() for match in _NEWLINE.finditer(self._text))]
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1
