"""Which names a template or an expression uses, and where: for validation, and to offer a node what it asks for."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from minijinja import Environment, TemplateError

from engine.expressions.cost import MAX_TOKENS, CostEstimate, estimate_cost
from engine.expressions.lexer import (
    Lines,
    TemplatePart,
    as_expression,
    count_solid,
    has_code,
    place_of,
    segments,
    solid,
    statement_word,
    without_slices,
)

NODES, SECRETS = "nodes", "secrets"
BUILT_IN = frozenset({"range", "dict", "loop"})
MAX_PIECE = 4_000
"""Tokens of one piece of code. minijinja nests `1 + 1 + 1 …` as deeply as it is long, and the stack has an end."""
MAX_ELIFS = 500
_MAX_CACHED = 16 * 1024
_STRING = re.compile(r"""(['"])([^\\]*)\1""", re.DOTALL)
_parser = Environment()


@dataclass(frozen=True, slots=True)
class Use:
    """A name and where it first stands. `is_node`: written as `nodes.x` or `nodes["x"]`, so that it must be a node."""

    name: str
    is_node: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class TemplateCode:
    """What one text uses: names from outside, filters, and the words that its statements begin with; each once.

    `secrets` are the x of `secrets.x`; one without a name stands for any other use of `secrets`.
    """

    uses: tuple[Use, ...] = ()
    secrets: tuple[Use, ...] = ()
    filters: tuple[Use, ...] = ()
    statements: tuple[Use, ...] = ()


class _Name(NamedTuple):
    """A name inside a piece of code, by the number of its token; `of` is the x of `nodes.x` and of `secrets.x`."""

    name: str
    of: str | None
    token: int


class _Piece(NamedTuple):
    """One piece of code by itself, wherever it stands."""

    names: tuple[_Name, ...]
    filters: tuple[_Name, ...]


NOTHING = TemplateCode()


def uses(text: str, *, expression: bool = False) -> TemplateCode:
    """Raises TemplateError where the syntax is wrong."""
    if not expression and not has_code(text):
        return NOTHING
    return (_cached if len(text) <= _MAX_CACHED else _cached_long)(text, expression)


def references(text: str) -> frozenset[str]:
    """Every name that a text may ask for, as a template or as an expression; `nodes` only where it is used whole."""
    found: set[str] = set()
    for expression in (False, True):
        try:
            found |= {use.name for use in uses(text, expression=expression).uses}
        except TemplateError:
            continue  # it is no expression, or no template: then it asks for nothing as one
    return frozenset(found)


def weight(text: str, *, expression: bool = False) -> CostEstimate:
    """Of a text whose syntax is right."""
    return (_cached_weight if len(text) <= _MAX_CACHED else _cached_long_weight)(text, expression)


def _weight(text: str, expression: bool) -> CostEstimate:
    if expression:
        return estimate_cost([solid(as_expression(text))], ())
    codes, words = [], set()
    for segment in segments(text):
        code = text[segment.start : segment.end]
        codes.append(solid(code))
        if segment.part is TemplatePart.STATEMENT:
            words.add(statement_word(code))
        if len(codes) > MAX_TOKENS:
            return CostEstimate.HEAVY
    return estimate_cost(codes, words)


_cached_weight = lru_cache(maxsize=4096)(_weight)
_cached_long_weight = lru_cache(maxsize=4)(_weight)


def _uses(text: str, expression: bool) -> TemplateCode:
    if expression:
        _check_size(text)
        source = as_expression(text)
        return _code(source, [(0, source)], (), _undeclared(source, [(0, source)], "{{%s\n}}"))
    codes: list[tuple[int, str]] = []
    statements: dict[str, int] = {}
    elifs = 0
    for segment in segments(text):
        code = text[segment.start : segment.end]
        if len(code) > MAX_PIECE:
            _check_size(code)
        codes.append((segment.start, code))
        if segment.part is TemplatePart.STATEMENT:
            word = statement_word(code)
            statements.setdefault(word, segment.start + code.find(word))
            elifs += word == "elif"
    if elifs > MAX_ELIFS:
        raise TemplateError(f"more than {MAX_ELIFS} times `elif`")
    return _code(text, codes, statements.items(), _undeclared(text, codes))


def _undeclared(text: str, codes: Sequence[tuple[int, str]], around: str = "%s") -> set[str]:
    """The names from outside. Raises TemplateError, with its place in the text as it is."""
    found = _parser.undeclared_variables_in_str(around % text)
    parts, done = [], 0
    for start, code in codes:
        parts += [text[done:start], without_slices(code)]
        done = start + len(code)
    plain = "".join([*parts, text[done:]])
    return found if plain == text else found | _parser.undeclared_variables_in_str(around % plain)


_cached = lru_cache(maxsize=4096)(_uses)
_cached_long = lru_cache(maxsize=4)(_uses)


def _check_size(code: str) -> None:
    if count_solid(code, MAX_PIECE + 1) > MAX_PIECE:
        raise TemplateError(f"an expression has more than {MAX_PIECE:,} names and signs")


def _code(
    text: str, codes: Sequence[tuple[int, str]], statements: Iterable[tuple[str, int]], undeclared: set[str]
) -> TemplateCode:
    lines = Lines(text)
    wanted = undeclared - BUILT_IN
    uses: dict[tuple[str, bool], Use] = {}
    secrets: dict[str, Use] = {}
    filters: dict[str, Use] = {}
    # The same code stands in a template many times: it is looked at once, for what it has that was not seen before.
    for code, at in (
        {code: at for at, code in reversed(codes)}.items() if len(codes) > 1 else ((c, a) for a, c in codes)
    ):
        piece = _piece(code)
        for name, of, index in piece.names:
            node = of if name == NODES else None
            key = (node or name, node is not None)
            if name in wanted and key not in uses:
                uses[key] = Use(*key, *lines.position(at + place_of(code, index)))
            if name == SECRETS and name in wanted and (of or "") not in secrets:
                secrets[of or ""] = Use(of or "", False, *lines.position(at + place_of(code, index)))
        for name, _, index in piece.filters:
            if name not in filters:
                filters[name] = Use(name, False, *lines.position(at + place_of(code, index)))
    if len(uses) < len(wanted):
        _add_unplaced(uses, wanted, codes)
    if SECRETS in wanted and not secrets:
        secrets[""] = Use("", False, 1, 1)
    words = tuple(Use(word, False, *lines.position(start)) for word, start in statements)
    return TemplateCode(tuple(uses.values()), tuple(secrets.values()), tuple(filters.values()), words)


def _add_unplaced(uses: dict[tuple[str, bool], Use], wanted: set[str], codes: Sequence[tuple[int, str]]) -> None:
    """Names that the parser knows of, and that stand nowhere."""
    for name in wanted - {found.name for _, code in codes for found in _piece(code).names}:
        uses[name, False] = Use(name, False, 1, 1)


@lru_cache(maxsize=4096)
def _piece(code: str) -> _Piece:
    tokens = solid(code)
    names = [
        _Name(token, _member_of(tokens, index) if token in (NODES, SECRETS) else None, index)
        for index, token in enumerate(tokens)
        if token.isidentifier() and not _is_attribute_or_keyword(tokens, index)
    ]
    filters = [
        _Name(token, None, index + 1)
        for index, (before, token) in enumerate(pairwise(tokens))
        if before == "|" and token.isidentifier()
    ]
    return _Piece(tuple(names), tuple(filters))


def _is_attribute_or_keyword(tokens: Sequence[str], index: int) -> bool:
    before = tokens[index - 1] if index else ""
    if before in (".", "|"):
        return True
    after = "".join(tokens[index + 1 : index + 3]) if before in ("(", ",") else ""
    return after.startswith("=") and after != "=="


def _member_of(tokens: Sequence[str], index: int) -> str | None:
    """`x` of `nodes.x` and of `nodes["x"]`; None where the name is used in another way."""
    after = tokens[index + 1 : index + 4]
    if len(after) >= 2 and after[0] == "." and after[1].isidentifier() and after[2:] != ["("]:
        return after[1]
    if len(after) == 3 and after[0] == "[" and after[2] == "]" and (quoted := _STRING.fullmatch(after[1])):
        return quoted.group(2)
    return None


ITEM, INDEX = "item", "index"


OF_AN_ITEM = frozenset({ITEM, INDEX})
"""What is known inside a `map` alone."""
