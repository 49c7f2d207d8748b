"""Parse an expression, and write it as the source that minijinja evaluates; see lowering.py.

The parser follows the grammar of minijinja as far as operands must be found. Nothing is evaluated.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from engine.expressions.ordering import COMPARE, PATH_ITEM, PATH_VALUE

COMPARE_FUNCTION, SLICE_FILTER, UNDEFINED_NAME = "__compare__", "__slice__", "__undefined__"
PRESENT_FILTER = "__present__"
"""The filter that fails for a value that is missing, and gives every other value."""
TEXT_FILTER = "__text__"
"""The filter that writes an operand of `~` as a text."""
PATHS_FILTER = "__paths__"
"""The filter that pairs each item with its value at a path."""
PLACE = "__place__"
"""The keyword argument that tells a filter its place."""
EXTREMES = {"min": "__min__", "max": "__max__"}
"""The filters whose result may be undefined, and the filters that give it in a list."""
PATH_SELECTORS = frozenset({"selectattr", "rejectattr"})
ORDERING_FILTERS = frozenset({"sort", "dictsort", "groupby", "unique", *EXTREMES})
# fmt: off
PLACED_FILTERS = frozenset({
    "capitalize", "chain", "datetime_difference", "datetime_format", "datetime_shift", "float", "fromjson", "int",
    "join", "lines", "lower", "replace", "split", "string", "sum", "title", "tojson", "trim", "upper", "urlencode",
})
# fmt: on
"""The other filters in Python, which learn their place and whether their input is undefined."""
WRITTEN_ARGUMENTS = {"format": "__argument__", "join": "__written__"}
"""The methods of a text that write their arguments, and the filters that prepare an argument."""
MAX_GUARDED = 24
"""Steps of a path that are guarded. Each step takes one level of the parser of minijinja."""
_TOKEN = re.compile(
    r"""(?:'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[^\W\d]\w*"""
    r"""|\d\w*(?:\.\d\w*)?(?:(?<=[eE])[-+]\d+)?|\*\*|//|[<>=!]=|\S)""",
    re.DOTALL,
)
_LITERAL = re.compile(r"\s*[\d'\"]")
_SUMS, _PRODUCTS = frozenset({"+", "-"}), frozenset({"*", "/", "//", "%", "**"})
_COMPARISONS = frozenset({*COMPARE, "==", "!=", "in"})
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_KEYWORDS = frozenset({"and", "or", "not", "if", "else", "in", "is"})
_MISSING_RESULTS = frozenset({"first", "last", "default", "d"})
"""The filters whose result may be undefined, besides `min` and `max`."""
_PATH_FILTERS, _PATH_TESTS = frozenset({"default", "d"}), frozenset({"defined", "undefined"})


class Span(NamedTuple):
    """A part of a text: the indexes of its first character and of the one after its last."""

    start: int
    end: int


class SourcePart(NamedTuple):
    """A part of the lowered source.

    `origin` is its index in the original text, or of what it was inserted for.
    """

    text: str
    origin: int
    is_inserted: bool = False


@dataclass(slots=True)
class _Node:
    """A parsed expression.

    Attributes:
        plain: Its pieces.
        safe: The same, where a path is undefined if a part of it is missing or null.
        receiver: `safe` without the guard of the last step, for a method that is called on it.
        steps: The number of guards in `safe`.
        is_operand: Whether a filter can be appended without brackets.
        may_be_missing: Whether its value can be undefined although it has no steps.
    """

    plain: list[SourcePart]
    safe: list[SourcePart]
    receiver: list[SourcePart]
    steps: int = 0
    is_operand: bool = True
    may_be_missing: bool = False


def _has_comparison(node: _Node) -> bool:
    return any(part.is_inserted and COMPARE_FUNCTION in part.text for part in node.plain)


def _has_path(arguments: list[SourcePart]) -> bool:
    """Tell whether the first argument is a text with a path of several steps, such as `'a.b'`."""
    texts = [part.text.strip() for part in arguments[1:3]]
    return len(texts) == 2 and texts[0][:1] in ("'", '"') and "." in texts[0] and texts[1] in (",", ")")


def _node(pieces: list[SourcePart], *, is_operand: bool = True, may_be_missing: bool = False) -> _Node:
    return _Node(pieces, pieces, pieces, is_operand=is_operand, may_be_missing=may_be_missing)


class ExpressionParser:
    """Parses one piece of code by recursive descent (compiler/parser.rs of minijinja)."""

    def __init__(self, text: str, code: Span, places: list[tuple[Span, ...]]) -> None:
        self._text, self._code, self._places = text, code, places
        self._tokens = [Span(*match.span()) for match in _TOKEN.finditer(text, *code)]
        self._words = [text[token.start : token.end] for token in self._tokens] + [""]
        self._at = 0

    def parse(self) -> list[SourcePart]:
        """Return the pieces of the code. What is no expression, as in `for a, b in`, is kept."""
        pieces: list[SourcePart] = []
        while self._word:
            before = self._at
            pieces += self._expression().plain
            if self._at == before:
                pieces.append(self._take())
        end = self._tokens[-1].end if self._tokens else self._code.start
        return [*pieces, SourcePart(self._text[end : self._code.end], end)]

    @property
    def _word(self) -> str:
        return self._words[self._at]

    def _take(self) -> SourcePart:
        """Take a token, with the white space before it; nothing at the end, as after `1.`."""
        if not self._word:
            return SourcePart("", self._code.end)
        start = self._tokens[self._at - 1].end if self._at else self._code.start
        self._at += 1
        return SourcePart(self._text[start : self._tokens[self._at - 1].end], start)

    def _expression(self) -> _Node:
        """`a or not b if c else d`: the order of the operands is all that counts here."""
        pieces: list[SourcePart] = []
        while True:
            while self._word == "not":
                pieces.append(self._take())
            node = self._comparison()
            if not pieces and self._word not in ("and", "or", "if", "else"):
                return node
            pieces += node.plain
            if self._word not in ("and", "or", "if", "else"):
                return _node(pieces, is_operand=False, may_be_missing=True)
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
        # An operand that is missing is a keyword, as in `1 < not x`, of which minijinja makes a name.
        if COMPARE.keys().isdisjoint(operators) or not all(operand.plain for operand in operands):
            return _node(plain, is_operand=False)
        if len(operators) > 1 and not any(_has_comparison(operand) for operand in operands[1:-1]):
            return _node(list(self._pairs(operands, spans, operators)))
        return _node(list(self._call_of_compare(operands, spans, operators)))

    def _comparison_operator(self) -> str:
        if self._word == "not":
            return "not in" if self._words[self._at + 1] == "in" else ""
        return self._word if self._word in _COMPARISONS else ""

    def _pairs(self, operands: list[_Node], spans: list[Span], operators: list[str]) -> Iterator[SourcePart]:
        """`a < b < c` as `(a < b and b < c)`, in which `c` is evaluated only if `a < b`.

        An operand with a comparison in it is not repeated, so that nested chains do not explode.
        """
        for index, operator in enumerate(operators):
            yield SourcePart(" and" if index else " (", spans[index].start, True)
            pair, places = operands[index : index + 2], spans[index : index + 2]
            yield from self._call_of_compare(pair, places, [operator])
        yield SourcePart(")", spans[-1].start, True)

    def _call_of_compare(self, operands: list[_Node], spans: list[Span], operators: list[str]) -> Iterator[SourcePart]:
        self._places.append(tuple(spans))
        yield SourcePart(f" {COMPARE_FUNCTION}({len(self._places) - 1}", spans[0].start, True)
        for node, span, operator in zip(operands, spans, ["", *operators], strict=True):
            yield SourcePart(f', "{operator}", ' if operator else ", ", span.start, True)
            yield from self._defined(node, span.start)
        yield SourcePart(")", spans[-1].start, True)

    def _defined(self, node: _Node, origin: int) -> Iterator[SourcePart]:
        """Let an undefined operand arrive as `__undefined__` at a function of ours."""
        if len(node.plain) == 1 and _LITERAL.match(node.plain[0].text):
            yield from node.plain
            return
        if node.is_operand:
            yield from node.plain
        else:
            yield from (SourcePart("(", origin, True), *node.plain, SourcePart(")", origin, True))
        yield SourcePart(f"|default({UNDEFINED_NAME})", origin, True)

    def _span(self, first: int) -> Span:
        """Return the part of the text from a token to the last one that was taken."""
        last, count = max(self._at - 1, first), len(self._tokens)
        if first >= count:
            return Span(self._code.end, self._code.end)
        return Span(self._tokens[first].start, self._tokens[min(last, count - 1)].end)

    def _sum(self) -> _Node:
        """`a + b ~ c * d`: every operator that binds stronger than a comparison."""
        return self._chain(_SUMS, self._concatenation)

    def _concatenation(self) -> _Node:
        """`a ~ b`, with each operand as a text, because minijinja writes numbers and lists as Rust does."""
        before = self._at
        node = self._product()
        if self._word != "~":
            return node
        pieces = self._as_text(node, before)
        while self._word == "~":
            pieces.append(self._take())
            before = self._at
            pieces += self._as_text(self._product(), before)
        return _node(pieces, is_operand=False)

    def _product(self) -> _Node:
        return self._chain(_PRODUCTS, self._filtered)

    def _chain(self, operators: frozenset[str], operand: Callable[[], _Node]) -> _Node:
        """Operands with operators of the same rank between them."""
        node = operand()
        if self._word not in operators:
            return node
        pieces = [*node.plain]
        while self._word in operators:
            pieces += [self._take(), *operand().plain]
        return _node(pieces, is_operand=False)

    def _as_text(self, node: _Node, first: int) -> list[SourcePart]:
        if not node.plain or (len(node.plain) == 1 and node.plain[0].text.lstrip()[:1] in ("'", '"')):
            return [*node.plain]
        return self._placed(node, first, TEXT_FILTER)

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
        is_placed = word in PLACED_FILTERS
        arguments = self._items(is_literal=is_placed) if self._word == "(" else []
        if word in ORDERING_FILTERS or is_placed:
            self._places.append((span, name_span))
            placed = [*self._defined(node, span.start), bar, *self._placed_filter(word, name, arguments)]
            return _node(placed, may_be_missing=word in EXTREMES)
        if word in PATH_SELECTORS and _has_path(arguments):
            self._places.append((span, name_span))
            return _node([*self._defined(node, span.start), bar, *self._path_selector(name, arguments)])
        pieces = [*(node.safe if word in _PATH_FILTERS else node.plain), bar, *name, *arguments]
        return _node(pieces, may_be_missing=word in _MISSING_RESULTS)

    def _placed_filter(self, word: str, name: list[SourcePart], arguments: list[SourcePart]) -> list[SourcePart]:
        """Call the filter with its place. `min` and `max` give a list, of which the first is taken."""
        origin = name[0].origin + len(name[0].text) - len(name[0].text.lstrip())
        filled = any(piece.text.strip() for piece in arguments[1:-1])
        comma = ", " if filled and arguments[-2].text.strip() != "," else ""
        place = SourcePart(f"{comma}{PLACE}={len(self._places) - 1})", origin, True)
        opened = arguments[:-1] if arguments else [SourcePart("(", origin, True)]
        if word not in EXTREMES:
            return [*name, *opened, place]
        return [SourcePart(EXTREMES[word], origin, True), *opened, place, SourcePart("|first", origin, True)]

    def _path_selector(self, name: list[SourcePart], arguments: list[SourcePart]) -> list[SourcePart]:
        """Select by a field of pairs, in which a missing value is missing, and take the items again."""
        origin, path = name[0].origin, arguments[1].text.strip()
        pairs = f" {PATHS_FILTER}({path}, {PLACE}={len(self._places) - 1})|"
        field = SourcePart(f"'{PATH_VALUE}'", arguments[1].origin, True)
        items = SourcePart(f"|map(attribute='{PATH_ITEM}')", origin, True)
        return [SourcePart(pairs, origin, True), *name, arguments[0], field, *arguments[2:], items]

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
                call = self._items(written=self._written_by())
                node = _Node([*node.plain, *call], [*node.receiver, *call], [*node.receiver, *call], node.steps)
            elif self._word == ".":
                node = self._step(node, [self._take(), self._take()])
            else:
                node = self._subscript(node)
        return _node([*signs, *node.plain]) if signs else node

    def _step(self, node: _Node, step: list[SourcePart]) -> _Node:
        """Append a step to a path. In its safe form, the value before it is null if it is missing."""
        if node.steps >= MAX_GUARDED:
            return _node([*node.plain, *step])
        guarded = [*self._guarded(node, step[0].origin), *step]
        return _Node([*node.plain, *step], guarded, [*node.safe, *step], node.steps + 1)

    def _guarded(self, node: _Node, origin: int) -> list[SourcePart]:
        return [SourcePart("(", origin, True), *node.safe, SourcePart("|default(none))", origin, True)]

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
        safe = self._sliced(self._guarded(node, opening.origin), parts, opening.origin)
        if len(parts) < 3:
            return _Node([*node.plain, *plain], safe, safe, node.steps + 1)
        # With a negative step, minijinja takes the stop 0 for none, and a start before the list for 0.
        whole = [*node.plain, SourcePart("[:]", opening.origin, True)]  # An error if it is missing.
        stepped = self._sliced(whole, parts, opening.origin)
        return _Node(stepped, safe, safe, node.steps + 1)

    def _sliced(self, value: list[SourcePart], parts: list[list[SourcePart]], origin: int) -> list[SourcePart]:
        """A slice by our own filter. The slice of null is undefined."""
        pieces = [SourcePart("(", origin, True), *value, SourcePart(f"|{SLICE_FILTER}(", origin, True)]
        for part in parts:
            pieces += [*(part or [SourcePart("none", origin, True)]), SourcePart(", ", origin, True)]
        return [*pieces, SourcePart(")|first)", origin, True)]

    def _optional_expression(self) -> list[SourcePart]:
        return [] if self._word in (":", "]") else self._expression().plain

    def _primary(self) -> _Node:
        """A name, a literal, or what is in brackets. Nothing, if the token begins no expression."""
        word = self._word
        if word == "(":
            return self._bracketed()
        if word in ("[", "{"):
            return _node([self._take(), *self._rest(word, is_literal=True)])
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
            return _Node([opening, *node.plain, closing], safe, safe, node.steps, may_be_missing=node.may_be_missing)
        first = self._present(node, before) if self._word == "," else node.plain
        return _node([opening, *first, *self._rest("(", is_literal=True)])

    def _present(self, node: _Node, first: int) -> list[SourcePart]:
        """Let an item of a literal fail if its value is missing."""
        if node.steps == 0 and not node.may_be_missing:
            return node.plain
        return self._placed(node, first, PRESENT_FILTER)

    def _placed(self, node: _Node, first: int, name: str) -> list[SourcePart]:
        """Apply a filter of ours that fails if the value is missing."""
        span = self._span(first)
        self._places.append((span,))
        call = SourcePart(f"|{name}({len(self._places) - 1})", span.start, True)
        return [*self._defined(node, span.start), call]

    def _written_by(self) -> str:
        """Return the filter for the arguments of the call that begins here; empty if there is none."""
        is_method = self._at > 1 and self._words[self._at - 2] == "."
        return WRITTEN_ARGUMENTS.get(self._words[self._at - 1], "") if is_method else ""

    def _items(self, *, is_literal: bool = False, written: str = "") -> list[SourcePart]:
        """The arguments of a call, with their brackets. An argument may be missing unless `is_literal`."""
        is_object = self._at > 0 and self._words[self._at - 1] == "dict"
        return [self._take(), *self._rest("(", is_literal=is_literal or is_object, written=written)]

    def _rest(self, opening: str, *, is_literal: bool, written: str = "") -> list[SourcePart]:
        """Expressions and what separates them, up to the closing bracket.

        In a literal, minijinja makes null of a path whose value is missing. Here it is an error.
        """
        pieces: list[SourcePart] = []
        while self._word and self._word != _CLOSING[opening]:
            before = self._at
            node = self._expression()
            if written and node.plain and self._word != "=":
                pieces += self._placed(node, before, written)
            else:
                pieces += self._present(node, before) if is_literal else node.plain
            if self._at == before:
                pieces.append(self._take())
        return [*pieces, self._take()] if self._word else pieces
