"""Lower a template to the source that minijinja evaluates, with the rules that minijinja lacks.

- `a < b` becomes a call of ordering.compare, because minijinja orders values of every two types.
- The filters that order (`sort`, `min`, …) learn whether their input is undefined, and their place.
- In `a.b.c | default(x)` and `a.b.c is defined`, a missing or null `a` or `b` makes the whole path
  undefined. Everywhere else it stays an error.

The parser follows the grammar of minijinja as far as operands must be found. The caller has checked
the syntax. Nothing is evaluated here; results are cached by text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from engine.expressions.lexer import MAX_CACHED, TemplatePart, segments, statement_word
from engine.expressions.ordering import COMPARE

COMPARE_FUNCTION, SLICE_FILTER, UNDEFINED_NAME = "__compare__", "__slice__", "__undefined__"
PLACE = "__place__"
"""The keyword argument that tells a filter its place."""
EXTREMES = {"min": "__min__", "max": "__max__"}
"""The filters whose result may be undefined, and the filters that give it in a list."""
ORDERING_FILTERS = frozenset({"sort", "dictsort", "groupby", "unique", *EXTREMES})
MAX_GUARDED = 24
"""Steps of a path that are guarded. Each step takes one level of the parser of minijinja."""
_AFFECTED = re.compile(r"[<>]|\b(?:default|d|defined|undefined|sort|dictsort|groupby|unique|min|max)\b")
_TOKEN = re.compile(
    r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[^\W\d]\w*"""
    r"""|\d\w*(?:\.\d\w*)?(?:(?<=[eE])[-+]\d+)?|\*\*|//|[<>=!]=|\S)""",
    re.DOTALL,
)
_LITERAL = re.compile(r"\s*[\d'\"]")
_MATH = frozenset({"+", "-", "~", "*", "/", "//", "%", "**"})
_COMPARISONS = frozenset({*COMPARE, "==", "!=", "in"})
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_KEYWORDS = frozenset({"and", "or", "not", "if", "else", "in", "is"})
_PATH_FILTERS, _PATH_TESTS = frozenset({"default", "d"}), frozenset({"defined", "undefined"})


class Span(NamedTuple):
    """A part of a text: the indexes of its first character and of the one after its last."""

    start: int
    end: int


class _SourcePart(NamedTuple):
    """A part of the lowered source.

    `origin` is its index in the original text, or of what it was inserted for.
    """

    text: str
    origin: int
    is_inserted: bool = False


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
    pieces: list[_SourcePart] = []
    places: list[tuple[Span, ...]] = []
    at = 0
    for code in [Span(0, len(text))] if is_expression else list(_codes(text)):
        pieces.append(_SourcePart(text[at : code.start], at))
        affected = _AFFECTED.search(text, *code)
        pieces += (
            _Parser(text, code, places).parse() if affected else [_SourcePart(text[code.start : code.end], code.start)]
        )
        at = code.end
    return _joined([*pieces, _SourcePart(text[at:], at)], tuple(places))


def _joined(parts: list[_SourcePart], places: tuple[tuple[Span, ...], ...]) -> Lowered:
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


@dataclass(slots=True)
class _Node:
    """A parsed expression.

    Attributes:
        plain: Its pieces.
        safe: The same, where a path is undefined if a part of it is missing or null.
        receiver: `safe` without the guard of the last step, for a method that is called on it.
        steps: The number of guards in `safe`.
        is_operand: Whether a filter can be appended without brackets.
    """

    plain: list[_SourcePart]
    safe: list[_SourcePart]
    receiver: list[_SourcePart]
    steps: int = 0
    is_operand: bool = True


def _node(pieces: list[_SourcePart], *, is_operand: bool = True) -> _Node:
    return _Node(pieces, pieces, pieces, is_operand=is_operand)


class _Parser:
    """Parses one piece of code by recursive descent (compiler/parser.rs of minijinja)."""

    def __init__(self, text: str, code: Span, places: list[tuple[Span, ...]]) -> None:
        self._text, self._code, self._places = text, code, places
        self._tokens = [Span(*match.span()) for match in _TOKEN.finditer(text, *code)]
        self._words = [text[token.start : token.end] for token in self._tokens] + [""]
        self._at = 0

    def parse(self) -> list[_SourcePart]:
        """Return the pieces of the code. What is no expression, as in `for a, b in`, is kept."""
        pieces: list[_SourcePart] = []
        while self._word:
            before = self._at
            pieces += self._expression().plain
            if self._at == before:
                pieces.append(self._take())
        end = self._tokens[-1].end if self._tokens else self._code.start
        return [*pieces, _SourcePart(self._text[end : self._code.end], end)]

    @property
    def _word(self) -> str:
        return self._words[self._at]

    def _take(self) -> _SourcePart:
        """Take a token, with the white space before it."""
        start = self._tokens[self._at - 1].end if self._at else self._code.start
        self._at += 1
        return _SourcePart(self._text[start : self._tokens[self._at - 1].end], start)

    def _expression(self) -> _Node:
        """`a or not b if c else d`: the order of the operands is all that counts here."""
        pieces: list[_SourcePart] = []
        while True:
            while self._word == "not":
                pieces.append(self._take())
            node = self._comparison()
            if not pieces and self._word not in ("and", "or", "if", "else"):
                return node
            pieces += node.plain
            if self._word not in ("and", "or", "if", "else"):
                return _node(pieces, is_operand=False)
            pieces.append(self._take())

    def _comparison(self) -> _Node:
        """`a < b`, `a in b`, `a < b <= c`."""
        before = self._at
        node = self._sum()
        if self._at == before:
            return node
        operands, spans, operators = [node], [self._span(before)], []
        plain = [*node.plain]
        while operator := self._comparison_operator():
            taken = [self._take() for _ in operator.split()]
            before = self._at
            operands.append(self._sum())
            spans.append(self._span(before))
            operators.append(operator)
            plain += [*taken, *operands[-1].plain]
        if not operators:
            return node
        if COMPARE.keys().isdisjoint(operators):
            return _node(plain, is_operand=False)
        return _node(list(self._call_of_compare(operands, spans, operators)))

    def _comparison_operator(self) -> str:
        if self._word == "not":
            return "not in" if self._words[self._at + 1] == "in" else ""
        return self._word if self._word in _COMPARISONS else ""

    def _call_of_compare(self, operands: list[_Node], spans: list[Span], operators: list[str]) -> Iterator[_SourcePart]:
        self._places.append(tuple(spans))
        yield _SourcePart(f" {COMPARE_FUNCTION}({len(self._places) - 1}", spans[0].start, True)
        for node, span, operator in zip(operands, spans, ["", *operators], strict=True):
            yield _SourcePart(f', "{operator}", ' if operator else ", ", span.start, True)
            yield from self._defined(node, span.start)
        yield _SourcePart(")", spans[-1].start, True)

    def _defined(self, node: _Node, origin: int) -> Iterator[_SourcePart]:
        """Let an undefined operand arrive as `__undefined__` at a function of ours."""
        if len(node.plain) == 1 and _LITERAL.match(node.plain[0].text):
            yield from node.plain
            return
        if node.is_operand:
            yield from node.plain
        else:
            yield from (_SourcePart("(", origin, True), *node.plain, _SourcePart(")", origin, True))
        yield _SourcePart(f"|default({UNDEFINED_NAME})", origin, True)

    def _span(self, first: int) -> Span:
        """Return the part of the text from a token to the last one that was taken."""
        last = max(self._at - 1, first)
        return Span(self._tokens[first].start, self._tokens[min(last, len(self._tokens) - 1)].end)

    def _sum(self) -> _Node:
        """`a + b * c`: every operator that binds stronger than a comparison."""
        node = self._filtered()
        if self._word not in _MATH:
            return node
        pieces = [*node.plain]
        while self._word in _MATH:
            pieces += [self._take(), *self._filtered().plain]
        return _node(pieces, is_operand=False)

    def _filtered(self) -> _Node:
        """`a.b | upper`, `a.b is defined`."""
        before = self._at
        node = self._path()
        while self._word in ("|", "is") and self._at > before:
            node = self._filter(node, before) if self._word == "|" else self._test(node)
        return node

    def _filter(self, node: _Node, first: int) -> _Node:
        span, bar, word = self._span(first), self._take(), self._word
        name = [self._take()]
        while self._word == ".":
            name += [self._take(), self._take()]
        name_span = Span(self._tokens[self._at - 1].start, self._tokens[self._at - 1].end)
        arguments = self._items() if self._word == "(" else []
        if word in ORDERING_FILTERS:
            self._places.append((span, name_span))
            return _node([*self._defined(node, span.start), bar, *self._ordering_filter(word, name, arguments)])
        return _node([*(node.safe if word in _PATH_FILTERS else node.plain), bar, *name, *arguments])

    def _ordering_filter(self, word: str, name: list[_SourcePart], arguments: list[_SourcePart]) -> list[_SourcePart]:
        """Call the filter with its place. `min` and `max` give a list, of which the first is taken."""
        origin = name[0].origin
        filled = any(piece.text.strip() for piece in arguments[1:-1])
        comma = ", " if filled and arguments[-2].text.strip() != "," else ""
        place = _SourcePart(f"{comma}{PLACE}={len(self._places) - 1})", origin, True)
        opened = arguments[:-1] if arguments else [_SourcePart("(", origin, True)]
        if word not in EXTREMES:
            return [*name, *opened, place]
        return [_SourcePart(EXTREMES[word], origin, True), *opened, place, _SourcePart("|first", origin, True)]

    def _test(self, node: _Node) -> _Node:
        taken = [self._take()]
        if self._word == "not":
            taken.append(self._take())
        word = self._word
        taken.append(self._take())
        while self._word == ".":
            taken += [self._take(), self._take()]
        if self._word == "(":
            taken += self._items()
        elif self._starts_argument():
            taken += self._path().plain
        return _node([*(node.safe if word in _PATH_TESTS else node.plain), *taken])

    def _starts_argument(self) -> bool:
        """Tell whether the argument of a test follows without brackets, as in `a is divisibleby 3`."""
        word = self._word
        return word[:1] in ("'", '"', "-", "[", "{") or (
            (word[:1].isalnum() or word[:1] == "_") and word not in _KEYWORDS
        )

    def _path(self) -> _Node:
        """`-a.b["c"].d(1)[2:3]`."""
        signs = []
        while self._word == "-":
            signs.append(self._take())
        before = self._at
        node = self._primary()
        while self._at > before and self._word in (".", "[", "("):
            if self._word == "(":
                call = self._items()
                node = _Node([*node.plain, *call], [*node.receiver, *call], [*node.receiver, *call], node.steps)
            elif self._word == ".":
                node = self._step(node, [self._take(), self._take()])
            else:
                node = self._subscript(node)
        return _node([*signs, *node.plain]) if signs else node

    def _step(self, node: _Node, step: list[_SourcePart]) -> _Node:
        """Append a step to a path. In its safe form, the value before it is null if it is missing."""
        if node.steps >= MAX_GUARDED:
            return _node([*node.plain, *step])
        guarded = [*self._guarded(node, step[0].origin), *step]
        return _Node([*node.plain, *step], guarded, [*node.safe, *step], node.steps + 1)

    def _guarded(self, node: _Node, origin: int) -> list[_SourcePart]:
        return [_SourcePart("(", origin, True), *node.safe, _SourcePart("|default(none))", origin, True)]

    def _subscript(self, node: _Node) -> _Node:
        """`[a]`, `[a:b]` and `[a:b:c]`."""
        opening, parts, colons = self._take(), [self._optional_expression()], []
        while self._word == ":":
            colons.append(self._take())
            parts.append(self._optional_expression())
        closing = self._take()
        plain = [opening, *parts[0]]
        for colon, part in zip(colons, parts[1:], strict=True):
            plain += [colon, *part]
        plain.append(closing)
        if not colons:
            return self._step(node, plain)
        safe = self._safe_slice(node, parts, opening.origin)
        return _Node([*node.plain, *plain], safe, safe, node.steps + 1)

    def _safe_slice(self, node: _Node, parts: list[list[_SourcePart]], origin: int) -> list[_SourcePart]:
        """A slice of null is an empty list in minijinja. Here it is undefined."""
        pieces = [
            _SourcePart("(", origin, True),
            *self._guarded(node, origin),
            _SourcePart(f"|{SLICE_FILTER}(", origin, True),
        ]
        for part in parts:
            pieces += [*(part or [_SourcePart("none", origin, True)]), _SourcePart(", ", origin, True)]
        return [*pieces, _SourcePart(")|first)", origin, True)]

    def _optional_expression(self) -> list[_SourcePart]:
        return [] if self._word in (":", "]") else self._expression().plain

    def _primary(self) -> _Node:
        """A name, a literal, or what is in brackets. Nothing, if the token begins no expression."""
        word = self._word
        if word == "(":
            return self._bracketed()
        if word in ("[", "{"):
            return _node(self._items())
        if word[:1] in ("'", '"'):
            pieces = [self._take()]
            while self._word[:1] in ("'", '"'):
                pieces.append(self._take())  # 'a' 'b' is one text
            return _node(pieces)
        is_value = (word[:1].isalnum() or word[:1] == "_") and word not in _KEYWORDS
        return _node([self._take()] if is_value else [])

    def _bracketed(self) -> _Node:
        """`(a)`, or the tuple `(a, b)`."""
        opening, before = self._take(), self._at
        node = self._expression()
        if self._at > before and self._word == ")":
            closing = self._take()
            safe = [opening, *node.safe, closing]
            return _Node([opening, *node.plain, closing], safe, safe, node.steps)
        return _node([opening, *node.plain, *self._rest("(")])

    def _items(self) -> list[_SourcePart]:
        """Everything in brackets: the arguments of a call, a list, or an object."""
        opening = self._word
        return [self._take(), *self._rest(opening)]

    def _rest(self, opening: str) -> list[_SourcePart]:
        """Expressions and what separates them, up to the closing bracket."""
        pieces: list[_SourcePart] = []
        while self._word and self._word != _CLOSING[opening]:
            before = self._at
            pieces += self._expression().plain
            if self._at == before:
                pieces.append(self._take())
        return [*pieces, self._take()] if self._word else pieces
