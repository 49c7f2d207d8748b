"""Own sentences for the messages of minijinja, so that no author reads those of a library.

minijinja names the types of Rust and of its own values. Pure.
"""

import re
from collections.abc import Callable
from re import Match

_KINDS = {
    "bool": "a boolean", "bytes": "bytes", "i32": "a whole number", "i64": "a whole number", "invalid": "an invalid value",
    "isize": "a whole number", "iterator": "a list", "map": "an object", "mapping": "an object", "none": "null",
    "f64": "a number", "float": "a number",
    "number": "a number", "plain object": "a function", "sequence": "a list", "string": "a text",
    "u32": "a whole number", "u64": "a whole number", "undefined": "a missing value", "usize": "a whole number",
}  # fmt: skip
_TOKENS = {
    "identifier": "a name",
    "integer": "a number",
    "float": "a number",
    "string": "a text",
    "end of block": "`%}`",
}
_PLACE = re.compile(r"(?: \(`.*` is undefined\))?(?: \(in <\w+>:\d+\))?$")
_SYNTAX = re.compile(r"(unexpected |expected )(identifier|integer|float|string|end of block)\b")
_NOT_POSSIBLE = "this operation is not possible with these values"


def kind_name(name: str) -> str:
    """Return our name for a kind of value of minijinja, with its article."""
    return _KINDS.get(name, "this value")


def _needs(what: str) -> Callable[[Match[str]], str]:
    return lambda found: f"`{found[1]}` needs {what}" + (f", not {kind_name(found[2])}" if found.re.groups > 1 else "")


def _looped(found: Match[str]) -> str:
    return f"{kind_name(found[1])} is no list or object"


def _called(found: Match[str]) -> str:
    return f"{kind_name(found[1])} cannot be called"


def _combined(found: Match[str]) -> str:
    return f"`{found[1]}` cannot combine {kind_name(found[2])} and {kind_name(found[3])}"


_MULTIPLIED = "a text can only be multiplied by a whole number from 0 on"
_CONTAINED = "`in` needs a list, an object or a text on its right side"
_SENTENCES: tuple[tuple[str, str | Callable[[Match[str]], str]], ...] = (
    (r"tried to use (\S+) operator on unsupported types (.+) and (.+)", _combined),
    (r"unable to calculate (.+)", r"`\1` cannot be calculated"),
    (r"(?:filter|unknown filter) (\S+) is unknown", r"there is no filter `\1`"),
    (r"test null is unknown", "there is no test `null`: write `is none`"),
    (r"test (\S+) is unknown", r"there is no test `\1`"),
    (r"unknown (filter|test|function|method)", r"there is no such \1"),
    (r"(\S+) is unknown", r"there is no function `\1`"),
    (r"(.+) has no method named (\S+)", lambda found: f"{kind_name(found[1])} has no method `{found[2]}`"),
    (r"unknown statement (\S+)", r"there is no statement `\1` here"),
    (r"invalid (?:float|integer|int) literal.*", "the text is no number"),
    (r"cannot parse .+ from empty string", "the text is empty, so it is no number"),
    (r"cannot round value .*", "`round` needs a number"),
    (r"range has too many elements", "`range` gives at most 100,000 items"),
    (r"can only (sum) numbers, got (\w+)", _needs("numbers")),
    (r"cannot get (first|last) item from value", _needs("a list or a text")),
    (r"cannot (join) value of type (.+)", _needs("a list or a text")),
    (r"cannot calculate (length) of value of type (.+)", _needs("a text, a list or an object")),
    (r"cannot get absolute value", "`abs` needs a number"),
    (r"cannot convert value into pairs", "`items` needs an object"),
    (
        r"cannot convert (.+) to (.+)",
        lambda found: f"an argument must be {kind_name(found[2])}, not {kind_name(found[1])}",
    ),
    (r"value is not a string", "a value must be a text"),
    (r"missing argument.*", "an argument is missing"),
    (r"too many arguments.*", "there are too many arguments"),
    (r"unknown keyword argument.*", "there is no argument of this name"),
    (r"cannot perform a containment check on this value", _CONTAINED),
    (r"strings can only be multiplied with integers", _MULTIPLIED),
    (r"cannot slice by step size of 0", "the step of a slice cannot be 0"),
    (r"value of type (.+) cannot be sliced", lambda found: f"{kind_name(found[1])} cannot be sliced"),
    (r"(.+) is not iterable", _looped),
    (r"(.+) is not callable", _called),
    (
        r"sequence of wrong length \(expected (\d+), got (\d+)\)",
        r"the list has \2 items, and there are \1 names for them",
    ),
)
_COMPILED = tuple((re.compile(pattern), sentence) for pattern, sentence in _SENTENCES)


def own_message(text: str, *, is_syntax: bool) -> str:
    """Return a sentence for a message of minijinja.

    Args:
        text: The message.
        is_syntax: Whether it is about the syntax. Such messages name symbols of the template.
    """
    text = _PLACE.sub("", text).replace("variable block", "expression")
    for pattern, sentence in _COMPILED:
        if found := pattern.fullmatch(text):
            return sentence(found) if callable(sentence) else found.expand(sentence)
    if is_syntax:
        return _SYNTAX.sub(lambda found: found[1] + _TOKENS[found[2]], text)
    return _NOT_POSSIBLE
