"""How much work a template may make at most, told from its text: whether it can be evaluated here or is done aside.

Light is what has no loops, no names of its own and no way to make much out of little: then it costs at most its length times
what it looks at, and what it looks at is counted (views.py). Everything else may be as cheap, and only its text doesn't say so.
"""

from collections.abc import Collection, Iterator, Sequence
from enum import Enum, auto

MAX_TOKENS = 256
MAX_CODE = 16 * 1024
"""Characters between the braces, texts that are written there included."""
SHORT = 18
"""Characters of a text, quotes included, that may be put between the members of a list."""
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
_WORDS_BEFORE_GROUP = frozenset({"and", "or", "not", "in", "is", "if", "else", "elif"})
# fmt: on
LIGHT_STATEMENTS = frozenset({"if", "elif", "else", "endif", "raw", "endraw"})


class CostEstimate(Enum):
    LIGHT = auto()
    NUMBERS = auto()
    """It multiplies: light for as long as it meets no text."""
    HEAVY = auto()


def estimate_cost(parts: Sequence[Sequence[str]], statements: Collection[str]) -> CostEstimate:
    """`parts` are the tokens of each piece of code, `statements` the words that statements begin with."""
    if not LIGHT_STATEMENTS.issuperset(statements) or sum(map(len, parts)) > MAX_TOKENS:
        return CostEstimate.HEAVY
    if sum(len(token) for part in parts for token in part) > MAX_CODE:
        return CostEstimate.HEAVY
    multiplies = any("*" in part for part in parts)
    if any(wrong for part in parts for wrong in _heavy(part, multiplies)):
        return CostEstimate.HEAVY
    return CostEstimate.NUMBERS if multiplies else CostEstimate.LIGHT


def _heavy(part: Sequence[str], multiplies: bool) -> Iterator[bool]:
    """Of each token, whether it may make the code heavy."""
    filters = _NUMBER_FILTERS if multiplies else _LIGHT_FILTERS
    texts = ["", *part, "", "", ""]
    for index in range(1, len(part) + 1):
        before, text, after = texts[index - 1], texts[index], texts[index + 1]
        if before == "|":
            yield text not in filters
            yield text == "join" and after == "(" and not _is_short(texts[index + 2 : index + 4])
        elif text == "(" and _is_callable(before):
            # What is called by a name: a filter, looked at above, a method, or a function, all of which make something.
            is_method, is_filter = texts[index - 2] == ".", texts[index - 2] == "|"
            yield not is_filter and not (is_method and before in _LIGHT_METHODS)
        elif multiplies and text[0] in "'\"":
            yield before != "["
        elif multiplies and text == "[":
            yield not _is_callable(before)


def _is_callable(before: str) -> bool:
    """Whether a bracket after this belongs to it: `f(`, `a[`; not `and (`, `+ [`."""
    return before in (")", "]", "}") or (
        (before[:1].isalnum() or before[:1] == "_") and before not in _WORDS_BEFORE_GROUP
    )


def _is_short(texts: Sequence[str]) -> bool:
    separator, after = texts
    return separator[:1] in ("'", '"') and len(separator) <= SHORT and after in (")", ",")
