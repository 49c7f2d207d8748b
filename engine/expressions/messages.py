"""Own sentences for the messages of minijinja, so that no author reads those of a library.

minijinja names the types of Rust and of its own values. Pure.
"""

import re
from collections.abc import Callable
from re import Match

from engine.expressions.advice import IF_MISSING, quoted
from engine.expressions.names import FILTERS, TESTS
from engine.near_names import did_you_mean

_KINDS = {
    "bool": "a boolean", "boolean": "a boolean", "bytes": "bytes", "i32": "a whole number", "i64": "a whole number",
    "invalid": "an invalid value",
    "isize": "a whole number", "iterator": "a list", "map": "an object", "mapping": "an object", "none": "null",
    "f64": "a number", "float": "a number",
    "number": "a number", "plain object": "a function", "sequence": "a list", "string": "a text",
    "u32": "a whole number", "u64": "a whole number", "undefined": "a missing value", "usize": "a whole number",
}  # fmt: skip
_TOKENS = {
    "identifier": "a name",
    "identifier or integer": "a name or a number",
    "integer": "a number",
    "float": "a number",
    "string": "a text",
    "statement": "a statement",
    "block keyword": "a statement",
    "keyword": "a word",
    "comma": "`,`",
    "assignment operator": "`=`",
    "in": "`in`",
    "as": "`as`",
    "import": "`import`",
    "start of block": "`{%`",
    "end of block": "`%}`",
    "expression": "an expression",
    "end of expression": "end of expression",
    "end of input": "end of the text",
}
"""Our names for the symbols in messages about the syntax."""
_PLACE = re.compile(r"(?: \(`.*` is undefined\))?(?: \(in <\w+>:\d+\))?$")
_SYMBOL = rf"`.+?`|{'|'.join(sorted(_TOKENS, key=len, reverse=True))}"
_SYNTAX = re.compile(rf"unexpected ({_SYMBOL})(?:, ?expected ({_SYMBOL})(?: or ({_SYMBOL}))?)?")
_NAME, _TEXT = re.compile(r"[^\W\d]\w*"), re.compile(r"""['"](\w+)['"]""")
_NAMED = {
    "an argument must": "an argument of `{}` must",
    "a value must": "an argument of `{}` must",
    "an argument is missing": "`{}` needs another argument",
    "there are too many arguments": "`{}` has too many arguments",
    "there is no argument": "`{}` has no argument",
    "the arguments have": "the arguments of `{}` have",
    "`length` needs": "`{}` needs",
}
"""How sentences begin, and how they begin if the name of the filter or the function is known."""
_INSTEAD = {
    "truncate": "`x[:20]`",
    "format": "`'{:.2f}'.format(x)`",
    "batch": "`x[:10]`, or use a `map` node",
    "wordcount": "`x | split | length`",
    "attr": "`x[name]`",
    "pprint": "`x | tojson(indent=2)`",
    "indent": "`x | tojson(indent=2)` for JSON",
    "filesizeformat": "`(x / 1048576) | round(1) ~ ' MiB'`",
}
"""What to write instead of filters of other template languages."""
_IMPOSSIBLE = re.compile(r"unable to calculate (.+ (\*\*|//|[-+*/%]) .+)")
_NOT_READABLE = "the syntax is wrong here"
_NOT_POSSIBLE = "this operation is not possible with these values"


def kind_name(name: str) -> str:
    """Return our name for a kind of value of minijinja, with its article."""
    return _KINDS.get(name, "this value")


def _needs(what: str) -> Callable[[Match[str]], str]:
    return lambda found: f"`{found[1]}` needs {what}" + (f", not {kind_name(found[2])}" if found.re.groups > 1 else "")


def _looped(found: Match[str]) -> str:
    return f"{kind_name(found[1])} is no list or object"


def _called(found: Match[str]) -> str:
    advice = "brackets after a value call it: write an operator between them"
    return f"{kind_name(found[1]) if found[1] else 'a value'} cannot be called; {advice}"


def _combined(found: Match[str]) -> str:
    return f"`{found[1]}` cannot combine {kind_name(found[2])} and {kind_name(found[3])}"


def _converted(found: Match[str]) -> str:
    target, source = kind_name(found[2]), kind_name(found[1])
    is_fraction = (target, source) == ("a whole number", "a number")
    return f"an argument must be {target}, not {'a number with a fraction' if is_fraction else source}"


def _unexpected(found: Match[str]) -> str:
    unexpected, *expected = [_TOKENS.get(symbol, symbol) for symbol in found.groups() if symbol]
    return f"unexpected {unexpected}" + (f", expected {' or '.join(expected)}" if expected else "")


def no_filter(name: str) -> str:
    """Return the message for an unknown filter, with the nearest one that exists."""
    advice = f": write {_INSTEAD[name]}" if name in _INSTEAD else did_you_mean(name, FILTERS)
    return f"there is no filter `{name}`" + (advice or "; docs/expressions.md lists the filters")


def no_test(name: str) -> str:
    """Return the message for an unknown test, with the nearest one that exists."""
    if name in ("null", "None"):
        return f"there is no test `{name}`: write `is none`"
    return f"there is no test `{name}`" + (did_you_mean(name, TESTS) or "; docs/expressions.md lists the tests")


def no_function(name: str) -> str:
    """Return the message for an unknown function."""
    advice = f"write `x | {name}`" if name in FILTERS else "there are `range` and `dict`"
    return f"there is no function `{name}`: {advice}"


def undefined_name(name: str) -> str:
    """Return the beginning of a message for a missing value, whose name is in backquotes.

    minijinja shortens what comes before the last step, and indexes that it calculates.
    """
    if not _PATH.fullmatch(name):
        return "the value is undefined"
    value = name.strip("`").removesuffix(_LENGTH)
    return f"{name} is undefined" + (f": a length is `{value} | length`" if f"{value}{_LENGTH}" in name else "")


_LENGTH = ".length"
_PATH = re.compile(r"`\w+(?:\.\w+|\[-?\d+\]|\['[^'\\]{0,60}'\])*`")
"""A name in backquotes whose steps are all known, such as `x.items[0]['a b']`."""


_MULTIPLIED = "a text can only be multiplied by a whole number from 0 on"
_CONTAINED = "`in` needs a list, an object or a text on its right side"
_SENTENCES: tuple[tuple[str, str | Callable[[Match[str]], str]], ...] = (
    (r"tried to use (\S+) operator on unsupported types (.+) and (.+)", _combined),
    (r"unable to calculate (.+)", r"`\1` cannot be calculated"),
    (r"(?:filter|unknown filter) (\S+) is unknown", lambda found: no_filter(found[1])),
    (r"test (\S+) is unknown", lambda found: no_test(found[1])),
    (r"unknown (function|method)", r"there is no such \1"),
    (r"(\S+) is unknown", lambda found: no_function(found[1])),
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
    (r"cannot (reverse) values of type (.+)", _needs("a list or a text")),
    (r"(zip) filter argument must be iterable, got (.+)", _needs("lists")),
    (r"(startswith|endswith) argument must be string or a tuple of strings, not (.+)", _needs("a text")),
    (r"cannot convert value to list", "`list` needs a list, an object or a text"),
    (r"filter name (?:must be a string|is required)", "`map` needs the name of a filter as a text, or `attribute='…'`"),
    (r"cannot get absolute value", "`abs` needs a number"),
    (r"cannot convert value into pairs", "`items` needs an object"),
    (r"cannot convert kwargs to (.+)", lambda found: f"an argument must be {kind_name(found[1])} without a name"),
    (r"cannot convert (.+) to (.+)", _converted),
    (r"value is not a string", "a value must be a text"),
    (r"missing argument.*", "an argument is missing"),
    (r"too many arguments.*", "there are too many arguments"),
    (r"unknown keyword argument '(.+)'", r"there is no argument `\1`"),
    (r"unexpected keyword arguments", "the arguments have no names here"),
    (r"cannot perform a containment check on this value", _CONTAINED),
    (r"strings can only be multiplied with integers", _MULTIPLIED),
    (
        r"sequences and iterables can only be multiplied with integers",
        "a list can only be multiplied by a whole number",
    ),
    (
        r"'(break|continue)' must be placed inside a loop",
        r"`{% \1 %}` must be between `{% for … %}` and `{% endfor %}`",
    ),
    (r"expected a filter", "`{% filter %}` needs the name of a filter, as in `{% filter upper %}`"),
    (r"cannot assign to reserved variable name (\S+)", r"`\1` cannot be the name of a variable"),
    (r"empty subscript", "there is nothing between the brackets: write an index, a key or a slice"),
    (r"missing keyword|non-keyword arg after keyword arg", "arguments without a name must come first"),
    (r"Too many arguments in function call", "there are too many arguments"),
    (r"(?:template exceeds maximum recursion limits|recursion limit exceeded)", "the template is nested too deeply"),
    (
        r"cannot recurse outside of recursive loop|loop is unknown",
        "`loop(…)` needs a `{% for … recursive %}` around it",
    ),
    (r"loop\(\) takes one argument", "`loop(…)` takes one argument"),
    (r"'_' may not occur at end of number", "a number cannot end with `_`"),
    (r"unexpected end of raw block", "`{% raw %}` has no end: write `{% endraw %}` after it"),
    (r"unexpected end of comment", "`{#` has no end: write `#}` after it"),
    (r"unexpected end of string", "unexpected end of string: a text has no closing quote"),
    (r"bad string escape", "a text has an unknown escape: write `\\\\\\\\` for a backslash"),
    (r"invalid float", "this is no number"),
    (r"invalid integer \(too large\)", "the whole number is beyond 64 bits"),
    (r"undefined value", "the value is undefined" + IF_MISSING),
    (r"(`[^`]*`) is undefined", lambda found: undefined_name(found[1]) + IF_MISSING),
    (r"cannot slice by step size of 0", "the step of a slice cannot be 0"),
    (r"value of type (.+) cannot be sliced", lambda found: f"{kind_name(found[1])} cannot be sliced"),
    (r"value is not iterable", "the value is no list or object, so it cannot be divided among several names"),
    (r"(.+) is not iterable", _looped),
    (r"(?:value of type (.+)|object) is not callable", _called),
    (
        r"sequence of wrong length \(expected (\d+), got (\d+)\)",
        r"the list has \2 items, and there are \1 names for them",
    ),
)
_COMPILED = tuple((re.compile(pattern), sentence) for pattern, sentence in _SENTENCES)


def own_message(text: str, code: str = "", *, is_syntax: bool) -> str:
    """Return a sentence for a message of minijinja.

    Args:
        text: The message.
        code: The part of the template that it is about, such as `round('x')`; empty if not known.
        is_syntax: Whether it is about the syntax. Such messages name symbols of the template.
    """
    text = _PLACE.sub("", text).replace("variable block", "expression")
    if not is_syntax and (about := _about(text, code)):
        return about
    for pattern, sentence in _COMPILED:
        if found := pattern.fullmatch(text):
            return _named(sentence(found) if callable(sentence) else found.expand(sentence), code)
    if is_syntax:
        found = _SYNTAX.fullmatch(text)
        return _unexpected(found) if found else _NOT_READABLE
    return _NOT_POSSIBLE


def _about(text: str, code: str) -> str:
    """Return a sentence with the operand or the filter that a message is about; empty if none fits."""
    if text == "invalid operation" and code.startswith("-"):
        operand = quoted(code[1:].strip())
        is_literal = operand in ("true", "false", "none") or not operand[:1].isalpha()
        advice = "" if is_literal else f"; if it is null, write `-({operand} or 0)`"
        return f"`{operand}` is no number, so `-` cannot be calculated{advice}"
    if values := _IMPOSSIBLE.fullmatch(text):
        reason = "it divides by 0" if values[2] in ("/", "//", "%") else "the result is too large"
        return f"`{quoted(code) or values[1]}` cannot be calculated: {reason}"
    name = found[0] if (found := _NAME.match(code)) else ""
    if text == "invalid operation" and name == "dict":
        return "`dict` needs an object, or arguments with names, as in `dict(a=1)`"
    if text in ("unknown filter", "unknown test"):
        index = 1 if name.endswith("attr") else 0
        names = [one[1] for one in _TEXT.finditer(code)]
        if len(names) > index:
            return no_filter(names[index]) if text == "unknown filter" else no_test(names[index])
        return f"`{name}` names a {text.split()[1]} that does not exist"
    return ""


def _named(sentence: str, code: str) -> str:
    """Put the name of the filter or the function into a sentence about its arguments."""
    name = _NAME.match(code)
    begin = next((begin for begin in _NAMED if sentence.startswith(begin)), "")
    return _NAMED[begin].format(name[0]) + sentence[len(begin) :] if name and begin else sentence
