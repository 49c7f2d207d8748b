"""Lower a template to the source that minijinja evaluates, with the rules that minijinja lacks.

- `a < b` becomes a call of ordering.compare, because minijinja orders values of every two types.
- The filters that order (`sort`, `min`, …) learn whether their input is undefined, and their place;
  so do the filters that write texts or read numbers.
- The arguments of the methods `format` and `join` are written by texts.py.
- An operand of `~` is written as a text by texts.py, as in `{{ … }}`.
- The path of `selectattr('a.b')` and `rejectattr('a.b')` may be missing at any depth.
- An item of a list or an object, as in `[a.b]`, must have a value.
- In `a.b.c | default(x)` and `a.b.c is defined`, a missing or null `a` or `b` makes the whole path
  undefined. Everywhere else it stays an error.

The caller has checked the syntax. Nothing is evaluated here; results are cached by text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from engine.expressions.lexer import MAX_CACHED, TemplatePart, segments, statement_word
from engine.expressions.parser import (
    ORDERING_FILTERS,
    PATH_SELECTORS,
    PLACED_FILTERS,
    ExpressionParser,
    SourcePart,
    Span,
)

_WORDS = sorted(
    {"default", "d", "defined", "undefined", "dict", "format"} | ORDERING_FILTERS | PATH_SELECTORS | PLACED_FILTERS
)
_AFFECTED = re.compile(r"[<>\[,~]|(?<!\{)\{(?![{%#])|\{\{\{|\b(?:" + "|".join(_WORDS) + r")\b")


@dataclass(frozen=True, slots=True)
class Lowered:
    """A source for minijinja.

    `places` has the operands of each comparison, and the input and the name of each filter that
    orders.
    """

    source: str
    places: tuple[tuple[Span, ...], ...]
    _starts: tuple[int, ...]
    _origins: tuple[tuple[int, bool], ...]

    def origin(self, offset: int) -> int:
        """Return the index in the original text of an index in the source."""
        index = max(bisect_right(self._starts, offset) - 1, 0)
        origin, is_inserted = self._origins[index]
        return origin + (0 if is_inserted else offset - self._starts[index])


def lower_expression(source: str) -> Lowered:
    """Lower an expression, which has no braces around it. Raises RecursionError."""
    return (_cached if len(source) <= MAX_CACHED else _cached_long)(source, True)


def lower_template(text: str) -> Lowered:
    """Lower the expressions and statements of a template. Raises RecursionError."""
    return (_cached if len(text) <= MAX_CACHED else _cached_long)(text, False)


def unchanged(text: str) -> Lowered:
    """Return a text as its own source."""
    return Lowered(text, (), (0,), ((0, False),))


def _lower(text: str, is_expression: bool) -> Lowered:
    if not _AFFECTED.search(text):
        return unchanged(text)
    pieces: list[SourcePart] = []
    places: list[tuple[Span, ...]] = []
    at = 0
    for code in [Span(0, len(text))] if is_expression else list(_codes(text)):
        pieces.append(SourcePart(text[at : code.start], at))
        affected = _AFFECTED.search(text, *code)
        pieces += (
            ExpressionParser(text, code, places).parse()
            if affected
            else [SourcePart(text[code.start : code.end], code.start)]
        )
        at = code.end
    return _joined([*pieces, SourcePart(text[at:], at)], tuple(places))


def _joined(parts: list[SourcePart], places: tuple[tuple[Span, ...], ...]) -> Lowered:
    """Join the parts, and note where a part does not follow the one before in the original text."""
    starts: list[int] = []
    origins: list[tuple[int, bool]] = []
    length, follows = 0, -1
    for part in parts:
        if part.is_inserted or part.origin != follows:
            starts.append(length)
            origins.append((part.origin, part.is_inserted))
        follows = -1 if part.is_inserted else part.origin + len(part.text)
        length += len(part.text)
    return Lowered("".join(part.text for part in parts), places, tuple(starts), tuple(origins))


_cached = lru_cache(maxsize=2048)(_lower)
_cached_long = lru_cache(maxsize=8)(_lower)


def _codes(text: str) -> Iterator[Span]:
    """Find the code of a template, without the marks that trim white space, and keywords."""
    for segment in segments(text):
        code = text[segment.start : segment.end]
        start = segment.start + (code[:1] in ("-", "+"))
        if segment.part is TemplatePart.STATEMENT:
            word = statement_word(code)
            start = segment.start + code.find(word) + len(word)
        yield Span(start, max(start, segment.end - (code[-1:] in ("-", "+"))))
