"""Find the names, secrets, filters and statements that a template or an expression uses.

Validation checks them before a run, and an evaluation gets only the values whose names occur in its
text. Results are cached by text. Nothing is evaluated here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from minijinja import Environment, TemplateError

from engine.expressions.cost import MAX_TOKENS, CostEstimate, estimate_cost
from engine.expressions.lexer import (
    OPERATOR_WORDS,
    LineIndex,
    TemplatePart,
    as_expression,
    count_tokens,
    has_code,
    position,
    segments,
    statement_word,
    token_start,
    token_texts,
    value_before_braces,
    without_slices,
)
from engine.expressions.messages import no_filter, no_function, no_test
from engine.expressions.names import (
    ENDS,
    FILTERS,
    FILTERS_BY_NAME,
    FUNCTIONS,
    TESTS,
    TESTS_BY_NAME,
    UNAVAILABLE_STATEMENTS,
)

Problem = tuple[str, int | None, int | None]
"""A message with line and column, both from 1."""
NO_OPERATOR = (
    "there is a value directly before `{{`: an expression needs an operator there, such as `~` between two texts. "
    "A text with `{{ … }}` in it is a template"
)
NO_NAME = "`{% set %}` needs a name without a dot, as in `{% set total = 0 %}`"
NODES, SECRETS = "nodes", "secrets"
THREAD = "thread"
"""The name of the conversation, in templates of nodes that ask a model."""
ITEM, INDEX = "item", "index"
MAP_NAMES = frozenset({ITEM, INDEX})
"""The names that exist inside a `map` node only."""
BUILT_IN = FUNCTIONS | {"loop"}
"""The names that minijinja defines."""
MAX_PIECE = 4_000
"""Tokens of one piece of code, which is an expression or a statement. The parser of minijinja uses
one level of the stack for each operand of `1 + 1 + 1 …`, so a longer one could overflow the stack.
"""
MAX_ELIFS = 500
"""The number of `elif` in one template, for the same reason."""
_MAX_CACHED = 16 * 1024
"""Characters of a text in the large cache. Longer texts have a cache of four entries."""
_STRING = re.compile(r"""(['"])([^\\]*)\1""", re.DOTALL)
_parser = Environment()


@dataclass(frozen=True, slots=True)
class NameUse:
    """A name and the place of its first use, with line and column from 1.

    `is_node` is True for the x of `nodes.x` and `nodes["x"]`, which must be the id of a node.
    """

    name: str
    is_node: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class TemplateCode:
    """The names that one text uses, each once.

    Attributes:
        uses: The names that the text does not define itself.
        secrets: The x of `secrets.x`. An empty name means another use of `secrets`.
        filters: The filters.
        problems: Messages about filters, tests, functions and statements that do not exist.
    """

    uses: tuple[NameUse, ...] = ()
    secrets: tuple[NameUse, ...] = ()
    filters: tuple[NameUse, ...] = ()
    problems: tuple[Problem, ...] = ()


class _Name(NamedTuple):
    """A name in a piece of code and the index of its token.

    `member` is the x of `nodes.x` and of `secrets.x`.
    """

    name: str
    member: str | None
    token: int


class _Piece(NamedTuple):
    """The names, filters, tests and calls of one piece of code, independent of its place in a text.

    `functions` are the names that are called, and the functions that are not called.
    """

    names: tuple[_Name, ...]
    filters: tuple[_Name, ...]
    tests: tuple[_Name, ...]
    functions: tuple[_Name, ...]


NO_CODE = TemplateCode()


def analyze(text: str, *, expression: bool = False) -> TemplateCode:
    """Find the names that a text uses.

    Args:
        text: A template, or an expression.
        expression: Whether the whole text is an expression, such as `a.b > 1`.

    Raises:
        TemplateError: The syntax of the text is wrong.
    """
    if not expression and not has_code(text):
        return NO_CODE
    return (_cached_analysis if len(text) <= _MAX_CACHED else _cached_long_analysis)(text, expression)


def references(text: str) -> frozenset[str]:
    """Find every name that a text uses as a template or as an expression.

    The name `nodes` is included only if the whole object is used, not a single node.
    """
    names: set[str] = set()
    for expression in (False, True):
        try:
            names |= {use.name for use in analyze(text, expression=expression).uses}
        except TemplateError:
            continue  # A text that is not an expression, or not a template, uses no names as one.
    return frozenset(names)


def cost_of(text: str, *, expression: bool = False) -> CostEstimate:
    """Estimate the cost of a text whose syntax is right."""
    return (_cached_cost if len(text) <= _MAX_CACHED else _cached_long_cost)(text, expression)


def _cost_of(text: str, expression: bool) -> CostEstimate:
    if expression:
        return estimate_cost([token_texts(as_expression(text))], ())
    codes, words = [], set()
    for segment in segments(text):
        code = text[segment.start : segment.end]
        codes.append(token_texts(code))
        if segment.part is TemplatePart.STATEMENT:
            words.add(statement_word(code))
        if len(codes) > MAX_TOKENS:
            return CostEstimate.HEAVY
    return estimate_cost(codes, words)


_cached_cost = lru_cache(maxsize=4096)(_cost_of)
_cached_long_cost = lru_cache(maxsize=4)(_cost_of)


def _analyze(text: str, expression: bool) -> TemplateCode:
    if expression:
        _check_size(text)
        source = as_expression(text)
        found = _code(source, [(0, source)], _undeclared(source, [(0, source)], "{{%s\n}}"))
        at = value_before_braces(text)
        return found if at is None else replace(found, problems=((NO_OPERATOR, *position(text, at)), *found.problems))
    codes: list[tuple[int, str]] = []
    elifs, has_statement = 0, False
    for segment in segments(text):
        code = text[segment.start : segment.end]
        if len(code) > MAX_PIECE:
            _check_size(code)
        codes.append((segment.start, code))
        if segment.part is TemplatePart.STATEMENT:
            has_statement = True
            elifs += statement_word(code) == "elif"
    if elifs > MAX_ELIFS:
        raise TemplateError(f"the template has more than {MAX_ELIFS} times `elif`")
    found = _code(text, codes, _undeclared(text, codes))
    return replace(found, problems=(*found.problems, *statement_problems(text))) if has_statement else found


def _undeclared(text: str, codes: Sequence[tuple[int, str]], around: str = "%s") -> set[str]:
    """Find the names that a text does not define itself.

    Args:
        text: The text.
        codes: Its pieces of code, each with its start.
        around: A pattern that makes a template of the text.

    Raises:
        TemplateError: The syntax is wrong. The error has its place in `text`.
    """
    names = _parser.undeclared_variables_in_str(around % text)
    parts, done = [], 0
    for start, code in codes:
        parts += [text[done:start], without_slices(code)]
        done = start + len(code)
    plain = "".join([*parts, text[done:]])
    # minijinja does not report the names inside of slices, so look again at a text without slices.
    return names if plain == text else names | _parser.undeclared_variables_in_str(around % plain)


_cached_analysis = lru_cache(maxsize=4096)(_analyze)
_cached_long_analysis = lru_cache(maxsize=4)(_analyze)


def _check_size(code: str) -> None:
    if count_tokens(code, MAX_PIECE + 1) > MAX_PIECE:
        raise TemplateError(f"an expression has more than {MAX_PIECE:,} names and operators")


def statement_problems(text: str) -> Iterator[Problem]:
    """Find statements that are not available, that set no name, and the last one that lacks its end.

    For them minijinja has only a message about symbols, or none before the evaluation.
    """
    opened: list[tuple[str, int]] = []
    for segment in segments(text):
        code = text[segment.start : segment.end]
        if segment.part is not TemplatePart.STATEMENT:
            continue
        word = statement_word(code)
        at = segment.start + code.find(word)
        if word in UNAVAILABLE_STATEMENTS:
            yield f"`{{% {word} %}}` is not available", *position(text, at)
        elif word == "set" and not _sets_names(token_texts(code)):
            yield NO_NAME, *position(text, at)
        elif word in ENDS and not (word == "set" and "=" in code):
            opened.append((word, at))
        elif opened and word == ENDS[opened[-1][0]]:
            opened.pop()
    for word, at in opened[-1:]:
        yield f"`{{% {word} %}}` has no end: write `{{% {ENDS[word]} %}}` after it", *position(text, at)


def _sets_names(tokens: Sequence[str]) -> bool:
    name, after = (*tokens[tokens.index("set") + 1 :], "", "")[:2]
    return name == "(" or (name.isidentifier() and after not in (".", "["))


def _code(text: str, codes: Sequence[tuple[int, str]], undeclared: set[str]) -> TemplateCode:
    lines = LineIndex(text)
    outer_names = undeclared - BUILT_IN
    uses: dict[tuple[str, bool], NameUse] = {}
    secrets: dict[str, NameUse] = {}
    filters: dict[str, NameUse] = {}
    problems: dict[str, Problem] = {}
    # A template may repeat the same code many times. Only its first occurrence is analyzed.
    for code, at in (
        {code: at for at, code in reversed(codes)}.items() if len(codes) > 1 else ((c, a) for a, c in codes)
    ):
        piece = _piece(code)
        for name, member, index in piece.names:
            node = member if name == NODES else None
            key = (node or name, node is not None)
            if name in outer_names and key not in uses:
                uses[key] = NameUse(*key, *lines.position(at + token_start(code, index)))
            if name == SECRETS and name in outer_names and (member or "") not in secrets:
                secrets[member or ""] = NameUse(member or "", False, *lines.position(at + token_start(code, index)))
        for name, _, index in piece.filters:
            if name not in filters:
                filters[name] = NameUse(name, False, *lines.position(at + token_start(code, index)))
        for message, index in _problems(piece, undeclared):
            if message not in problems:
                problems[message] = (message, *lines.position(at + token_start(code, index)))
    if len(uses) < len(outer_names):
        _add_without_place(uses, outer_names, codes)
    if SECRETS in outer_names and not secrets:
        secrets[""] = NameUse("", False, 1, 1)
    return TemplateCode(
        tuple(uses.values()), tuple(secrets.values()), tuple(filters.values()), tuple(problems.values())
    )


def _problems(piece: _Piece, undeclared: set[str]) -> Iterator[tuple[str, int]]:
    """Find the filters, tests and functions that do not exist. Yields messages and indexes of tokens."""
    for name, _, index in piece.filters:
        if name not in FILTERS:
            yield no_filter(name), index
    for name, _, index in piece.tests:
        if name not in TESTS:
            yield no_test(name), index
    for name, member, index in piece.functions:
        if name in FUNCTIONS and name in undeclared and member is None:
            yield f"`{name}` is a function: write `{name}(…)`", index
        elif name not in FUNCTIONS and name in undeclared and member is not None:
            yield no_function(name), index


def _add_without_place(
    uses: dict[tuple[str, bool], NameUse], outer_names: set[str], codes: Sequence[tuple[int, str]]
) -> None:
    """Add the names that only the parser reports, with the start of the text as their place."""
    for name in outer_names - {use.name for _, code in codes for use in _piece(code).names}:
        uses[name, False] = NameUse(name, False, 1, 1)


@lru_cache(maxsize=4096)
def _piece(code: str) -> _Piece:
    tokens = token_texts(code)
    names = [
        _Name(token, _member_of(tokens, index) if token in (NODES, SECRETS) else None, index)
        for index, token in enumerate(tokens)
        if token.isidentifier() and not _is_attribute_or_keyword(tokens, index)
    ]
    filters = [
        _Name(token, None, index + 1)
        for index, (before, token) in enumerate(pairwise(tokens))
        if token.isidentifier() and (before == "|" or (before == "filter" and _is_filter_statement(tokens, index)))
    ]
    tests = [
        _Name(token, None, index)
        for index, token in enumerate(tokens)
        if token.isidentifier() and token != "not" and _is_test(tokens, index)
    ]
    by_name = list(_filters_and_tests_by_name(tokens))
    functions = [
        _Name(name.name, "" if tokens[name.token + 1 : name.token + 2] == ["("] else None, name.token)
        for name in names
        if not _is_test(tokens, name.token)
    ]
    return _Piece(
        tuple(names),
        (*filters, *(name for is_test, name in by_name if not is_test)),
        (*tests, *(name for is_test, name in by_name if is_test)),
        tuple(functions),
    )


def _is_filter_statement(tokens: Sequence[str], index: int) -> bool:
    """Tell whether `filter` at an index begins `{% filter upper %}`, and is no variable as in `filter in x`."""
    return all(token in "-+" for token in tokens[:index]) and tokens[index + 1] not in OPERATOR_WORDS


def _is_test(tokens: Sequence[str], index: int) -> bool:
    """Tell whether a token is the name of a test, as in `a is odd` and `a is not odd`."""
    before = tokens[max(index - 2, 0) : index]
    return (before[-1:] == ["is"] and before[:1] != ["."]) or before == ["is", "not"]


def _filters_and_tests_by_name(tokens: Sequence[str]) -> Iterator[tuple[bool, _Name]]:
    """Find the names in `map('upper')` and `selectattr('a', 'gt', 1)`. Yields whether each is a test."""
    for index, (bar, token, bracket) in enumerate(zip(tokens, tokens[1:], tokens[2:], strict=False)):
        at = {**FILTERS_BY_NAME, **TESTS_BY_NAME}.get(token)
        if (bar, bracket) != ("|", "(") or at is None:
            continue
        arguments = tokens[index + 3 : index + 5 + 2 * at]
        is_plain = len(arguments) == 2 + 2 * at and arguments[-1] in (")", ",") and (not at or arguments[1] == ",")
        if is_plain and (quoted := _STRING.fullmatch(arguments[-2])):
            yield token in TESTS_BY_NAME, _Name(quoted.group(2), None, index + 3 + 2 * at)


def names_secrets(code: str) -> bool:
    """Tell whether a piece of code, which is an expression or a statement, names `secrets`."""
    return SECRETS in code and any(name.name == SECRETS for name in _piece(code).names)


def _is_attribute_or_keyword(tokens: Sequence[str], index: int) -> bool:
    """Tell whether a token is a field, a filter, or the name of a keyword argument."""
    before = tokens[index - 1] if index else ""
    if before in (".", "|"):
        return True
    after = "".join(tokens[index + 1 : index + 3]) if before in ("(", ",") else ""
    return after.startswith("=") and after != "=="


def _member_of(tokens: Sequence[str], index: int) -> str | None:
    """Return the x of `nodes.x` and of `nodes["x"]`, or None for another use of the name."""
    after = tokens[index + 1 : index + 4]
    if len(after) >= 2 and after[0] == "." and after[1].isidentifier() and after[2:] != ["("]:
        return after[1]
    if len(after) == 3 and after[0] == "[" and after[2] == "]" and (quoted := _STRING.fullmatch(after[1])):
        return quoted.group(2)
    return None
