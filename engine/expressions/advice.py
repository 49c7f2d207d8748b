"""What an author can write instead: for null operands, and for characters of other languages. Pure."""

from collections.abc import Mapping

from engine.expressions.lexer import tokens

MAX_OPERAND = 60
"""Characters of an operand that a message quotes."""
IF_MISSING = "; if it may be missing, write `… | default(value)`"
_NEUTRAL: Mapping[str, str] = {"a number": "0", "a text": "''", "a list": "[]", "an object": "{}"}
"""A value to use instead of null, by the kind of the other operand."""
_OUTPUT = ".output"
_DOLLAR = "names have no `$`: instead of `$json` write `input.name`, or `node_id.output.name` for another node"
_QUOTES = "put a text into `'` or `\"`"
_CHARACTERS: Mapping[str, str] = {
    "$": _DOLLAR,
    "?": "write `a if condition else b`, or `a | default(b)` for a value that may be missing",
    "&": "write `and`",
    "!": "write `not a`, or `a != b`",
    "^": "the power is `a ** b`",
    "`": _QUOTES,
    "“": _QUOTES,
    "”": _QUOTES,
    "‘": _QUOTES,
    "’": _QUOTES,
    ";": "a text has one expression",
    "#": "a comment is `{# … #}`, outside of expressions",
}


def quoted(text: str) -> str:
    """Return an operand as a message quotes it: on one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_OPERAND else f"{line[:MAX_OPERAND]}…"


def for_null(operand: str, other: str) -> str:
    """Advise how to replace a null.

    Args:
        operand: The code whose value is null.
        other: The kind of the value that it is combined with, such as `a number`.
    """
    value, code = _NEUTRAL.get(other, "0"), quoted(operand)
    advice = f"give another value for null, as in `({code} or {value})`"
    if not code.endswith(_OUTPUT):
        return advice
    last = f"`({code.removesuffix(_OUTPUT)}.last_output or {value})`"
    return (
        f"{advice}. The output of a node is null before its first visit, and where the node was skipped: "
        f"{last} keeps that of its latest visit"
    )


def for_character(text: str, offset: int) -> str:
    """Name the character that no expression has at this place, and advise what to write instead."""
    character = text[offset : offset + 1]
    if not character:
        return "unexpected end of expression"
    shown = f"`{character}`" if character.isprintable() and character != "`" else repr(character)
    advice = _CHARACTERS.get(character, "")
    return f"unexpected character {shown}" + (f": {advice}" if advice else "")


def for_operator(text: str, offset: int) -> str:
    """Advise what to write instead of an operator of another language; empty for any other token."""
    if text.startswith("||", offset - 1):
        return "write `or`"
    if text.startswith("=", offset) and not text.startswith("=>", offset):
        is_triple = text[max(offset - 2, 0) : offset] in ("==", "!=")
        return "write `==` or `!=`, with two characters" if is_triple else "equality is `==`"
    return ""


def operands(code: str, operator: str) -> tuple[str, str] | None:
    """Split an operation at its operator: the last one that is not in brackets."""
    depth, at = 0, -1
    found = [token for token in tokens(code, 0, len(code)) if not token.text.isspace()]
    for token, after in zip(found, [*found[1:], None], strict=True):
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
        is_double = after is not None and after.text == token.text and after.start == token.start + 1
        symbol = token.text * 2 if is_double and token.text in ("*", "/") else token.text
        was_double = code[token.start - 1 : token.start] == token.text and token.text in ("*", "/")
        if depth == 0 and symbol == operator and not was_double:
            at = token.start
    return None if at <= 0 else (code[:at], code[at + len(operator) :])
