"""Which names a template or an expression uses, and where: for validation, and to offer a node what it asks for."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from minijinja import Environment, TemplateError

from engine.syntax import Token, as_expression, has_code, position, segments, solid

NODES = "nodes"
BUILT_IN = frozenset({"range", "dict", "loop"})
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
class Code:
    """What is used by one text: names from outside and filters."""

    uses: tuple[Use, ...] = ()
    filters: tuple[Use, ...] = ()


NOTHING = Code()


def uses(text: str, *, expression: bool = False) -> Code:
    """Raises TemplateError where the syntax is wrong."""
    if not expression and not has_code(text):
        return NOTHING
    return (_cached if len(text) <= _MAX_CACHED else _uses)(text, expression)


def references(text: str) -> frozenset[str]:
    """Every name that a text may ask for, as a template or as an expression; `nodes` only where it is used whole."""
    found: set[str] = set()
    for expression in (False, True):
        try:
            found |= {use.name for use in uses(text, expression=expression).uses}
        except TemplateError:
            continue  # it is no expression, or no template: then it asks for nothing as one
    return frozenset(found)


def _uses(text: str, expression: bool) -> Code:
    if expression:
        source = as_expression(text)
        undeclared = _parser.undeclared_variables_in_str("{{" + source + "\n}}")
        found = solid(source, 0, len(source))
        return Code(tuple(_outside(source, [found], undeclared)), tuple(_filters(source, [found])))
    undeclared = _parser.undeclared_variables_in_str(text)
    parts = [solid(text, segment.start, segment.end) for segment in segments(text)]
    return Code(tuple(_outside(text, parts, undeclared)), tuple(_filters(text, parts)))


_cached = lru_cache(maxsize=4096)(_uses)


def _outside(text: str, parts: Sequence[Sequence[Token]], undeclared: set[str]) -> Iterator[Use]:
    """The names among `undeclared`, each once; for `nodes`, each node that it is asked for."""
    seen: set[tuple[str, bool]] = set()
    wanted = undeclared - BUILT_IN
    for part in parts if wanted else ():
        for index, token in enumerate(part):
            if token.text not in wanted or _is_attribute_or_keyword(part, index):
                continue
            node = _node_of(part, index) if token.text == NODES else None
            key = (node or token.text, node is not None)
            if key not in seen:
                seen.add(key)
                yield Use(*key, *position(text, token.start))
    for name in wanted - {token.text for part in parts for token in part}:
        yield Use(name, False, 1, 1)


def _is_attribute_or_keyword(part: Sequence[Token], index: int) -> bool:
    before = part[index - 1].text if index else ""
    after = "".join(token.text for token in part[index + 1 : index + 3])
    is_keyword = before in ("(", ",") and after.startswith("=") and after != "=="
    return before in (".", "|") or is_keyword


def _node_of(part: Sequence[Token], index: int) -> str | None:
    """`x` of `nodes.x` and of `nodes["x"]`; None where nodes is used in another way."""
    after = [token.text for token in part[index + 1 : index + 4]]
    if len(after) >= 2 and after[0] == "." and after[1].isidentifier() and after[2:] != ["("]:
        return after[1]
    if len(after) == 3 and after[0] == "[" and after[2] == "]" and (quoted := _STRING.fullmatch(after[1])):
        return quoted.group(2)
    return None


def _filters(text: str, parts: Sequence[Sequence[Token]]) -> Iterator[Use]:
    for part in parts:
        for index in range(1, len(part)):
            if part[index - 1].text == "|" and part[index].text.isidentifier():
                yield Use(part[index].text, False, *position(text, part[index].start))
