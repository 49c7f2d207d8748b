"""Estimate the worst-case cost of a template from its source.

A light template has no loops, no variables of its own and no operation whose result is much larger
than its input. It costs at most its length times the data that it reads, and that data is counted
(views.py), so it is evaluated in this process. Every other template is evaluated in the isolation
process, although many of them would be cheap: their source does not show it.
"""

from collections.abc import Collection, Iterator, Sequence
from enum import Enum, auto

MAX_TOKENS = 256
"""Tokens of the code of a light template."""
MAX_CODE = 16 * 1024
"""Characters of the code of a light template, string literals included."""
MAX_SEPARATOR = 18
"""Characters, quotes included, of a string literal that a light template passes to `join`."""
# fmt: off
_LIGHT_FILTERS = frozenset({
    "abs", "bool", "capitalize", "chain", "count", "d", "datetime_difference", "datetime_format", "datetime_shift",
    "default", "dictsort", "first", "float", "fromjson", "groupby", "int", "items", "join", "last", "length", "lines",
    "list", "lower", "max", "min", "rejectattr", "reverse", "round", "selectattr", "sort", "split", "string", "sum",
    "title", "tojson", "trim", "unique", "upper", "urlencode", "zip",
})
_NUMBER_FILTERS = frozenset({"abs", "count", "float", "int", "length", "max", "min", "round", "sum"})
_LIGHT_METHODS = frozenset({
    "capitalize", "count", "endswith", "find", "get", "items", "keys", "lower", "lstrip", "rstrip", "split",
    "splitlines", "startswith", "strip", "title", "upper", "values",
})
_KEYWORDS_BEFORE_GROUP = frozenset({"and", "or", "not", "in", "is", "if", "else", "elif"})
# fmt: on
LIGHT_STATEMENTS = frozenset({"if", "elif", "else", "endif", "raw", "endraw"})


class CostEstimate(Enum):
    """The worst-case cost of a template."""

    LIGHT = auto()
    """Evaluate it in this process."""
    NUMBERS = auto()
    """It multiplies. It is light as long as it reads no text, because `text * number` is large."""
    HEAVY = auto()
    """Evaluate it in the isolation process."""


def estimate_cost(parts: Sequence[Sequence[str]], statements: Collection[str]) -> CostEstimate:
    """Estimate the cost of a template.

    Args:
        parts: The tokens of each piece of code.
        statements: The first words of its statements.
    """
    if not LIGHT_STATEMENTS.issuperset(statements) or sum(map(len, parts)) > MAX_TOKENS:
        return CostEstimate.HEAVY
    if sum(len(token) for part in parts for token in part) > MAX_CODE:
        return CostEstimate.HEAVY
    multiplies = any("*" in part for part in parts)
    if any(is_heavy for part in parts for is_heavy in _heavy_tokens(part, multiplies)):
        return CostEstimate.HEAVY
    return CostEstimate.NUMBERS if multiplies else CostEstimate.LIGHT


def _heavy_tokens(part: Sequence[str], multiplies: bool) -> Iterator[bool]:
    """Tell of each token whether it may make the code heavy."""
    filters = _NUMBER_FILTERS if multiplies else _LIGHT_FILTERS
    texts = ["", *part, "", "", ""]
    for index in range(1, len(part) + 1):
        before, text, after = texts[index - 1], texts[index], texts[index + 1]
        if before == "|":
            yield text not in filters
            yield text == "join" and after == "(" and not _is_short_separator(texts[index + 2 : index + 4])
        elif text == "(" and _is_callable(before):
            # A call of a filter (checked above), of a method or of a function. Functions are heavy.
            is_method, is_filter = texts[index - 2] == ".", texts[index - 2] == "|"
            yield not is_filter and not (is_method and before in _LIGHT_METHODS)
        elif multiplies and text[0] in "'\"":
            yield before != "["
        elif multiplies and text == "[":
            yield not _is_callable(before)


def _is_callable(before: str) -> bool:
    """Tell whether a bracket after this token is a call or an index: `f(`, `a[`; not `and (`."""
    return before in (")", "]", "}") or (
        (before[:1].isalnum() or before[:1] == "_") and before not in _KEYWORDS_BEFORE_GROUP
    )


def _is_short_separator(texts: Sequence[str]) -> bool:
    separator, after = texts
    return separator[:1] in ("'", '"') and len(separator) <= MAX_SEPARATOR and after in (")", ",")
