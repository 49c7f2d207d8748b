"""Own sentences for the errors of jmespath and re2, so that no author reads the messages of a library.

What a message quotes is a part of the author's expression or pattern. Pure. The libraries are
imported by the tools that use them.
"""

import re

MAX_SHOWN = 60
"""Characters of the author's text that a message quotes."""
_TYPES = {
    "array": "a list",
    "array-number": "a list of numbers",
    "array-string": "a list of texts",
    "boolean": "true or false",
    "expref": "an expression such as `&name`",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}


def query_message(error: Exception, expression: str) -> str:
    """Return what is wrong with a JMESPath expression, or with the data for it."""
    return f"the JMESPath expression `{_short(expression)}` {_query_fault(error)}"


def _query_fault(error: Exception) -> str:
    from jmespath import exceptions

    name = getattr(error, "function_name", "")
    match error:
        case exceptions.IncompleteExpressionError() | exceptions.EmptyExpressionError():
            return "ends too early: a bracket or a value is missing"
        case exceptions.LexerError() if str(error.message).startswith("Unclosed"):
            return f"has a quote at column {error.lex_position + 1} that is not closed"
        case exceptions.LexerError():
            shown = _short(str(error.lexer_value))
            return f"has `{shown}` at column {error.lex_position + 1}, which is not expected there"
        case exceptions.ArityError():
            count = f"{error.expected_arity} argument{'' if error.expected_arity == 1 else 's'}"
            least = "at least " if isinstance(error, exceptions.VariadictArityError) else ""
            return f"calls `{name}` with {error.actual_arity} arguments: it takes {least}{count}"
        case exceptions.UnknownFunctionError():
            found = re.search(r"(\w+)\(\)", str(error))
            return f"calls `{found[1]}`, which is no function of JMESPath" if found else "calls an unknown function"
        case exceptions.JMESPathTypeError():
            types = " or ".join(_TYPES.get(kind, kind) for kind in error.expected_types)
            return f"calls `{name}` with another value than {types}: check that the data has the value there"
        case exceptions.ParseError():
            shown = _short(str(error.token_value))
            return f"has `{shown}` at column {error.lex_position + 1}, which is not expected there"
        case ValueError() if "slice step" in str(error):
            return "has a slice with the step 0"
    return "cannot be applied to these data: check the types of the values that it compares, sorts or joins"


_PATTERN_FAULTS = {
    "missing )": "a `(` is not closed",
    "unexpected )": "a `)` closes nothing",
    "missing ]": "a `[` is not closed",
    "no argument for repetition operator": "{} repeats nothing",
    "invalid repetition size": "{} is no valid count: the smaller number is first, and the largest is 1000",
    "bad repetition operator": "{} repeats a repetition, or too often",
    "invalid perl operator": "{} is not available in RE2, which has no look-around",
    "invalid escape sequence": "{} is no escape sequence of RE2, which has no back references",
    "invalid character class range": "{} is no valid range or class of characters",
    "invalid character class": "{} is no valid class of characters",
    "invalid named capture group": "{} is no valid name of a group",
    "trailing \\": "it ends with a single `\\`",
    "pattern too large": "it is too large when it is compiled: make its counts smaller",
}


def pattern_message(error: Exception) -> str:
    """Return what is wrong with a pattern of RE2."""
    raw = error.args[0] if error.args else ""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    for beginning, fault in _PATTERN_FAULTS.items():
        if text.startswith(beginning):
            quoted = text.removeprefix(beginning).removeprefix(":").strip()
            return f"the pattern is not valid: {fault.format(f'`{_short(quoted)}`' if quoted else 'a part')}"
    return "the pattern is not valid in RE2"


def replacement_message(replacement: str) -> str:
    """Return what is wrong with the replacement of a pattern."""
    return (
        f"the replacement `{_short(replacement)}` is not valid: `\\1` to `\\9` and `\\g<name>` must be groups of the "
        "pattern, and a backslash is written `\\\\`"
    )


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
