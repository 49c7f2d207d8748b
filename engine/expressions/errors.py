"""Convert every exception of an evaluation to an ExpressionError with its place in the text."""

import re
from itertools import accumulate

from minijinja import TemplateError

from engine.expressions.filters import FilterError
from engine.expressions.lexer import position
from engine.expressions.lowering import Lowered
from engine.expressions.messages import own_message
from engine.expressions.ordering import OrderingError
from engine.expressions.parser import Span

MAX_OPERAND = 60
"""Characters of an operand that a message quotes."""
_KINDS_WITHOUT_VALUES = frozenset(
    ["OutOfFuel", "UnknownFilter", "UnknownFunction", "UnknownMethod", "UnknownTest", "SyntaxError"]
)
"""Errors of minijinja whose message has names of the template and no values."""
_SYNTAX_KINDS = frozenset(["SyntaxError", "BadEscape"])
_IF_MISSING = "; if it may be missing, write `… | default(value)`"

Problem = tuple[str, int | None, int | None]
"""A message with line and column, both from 1."""


class ExpressionError(Exception):
    """A template or expression cannot be parsed, or its evaluation failed."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column

    def __str__(self) -> str:
        where = f" (line {self.line}, column {self.column})" if self.line and self.column else ""
        return self.message + where


def expression_error(error: Exception, text: str, lowered: Lowered, fuel: int) -> ExpressionError:
    """Convert an exception of minijinja, of a view or of a filter.

    Args:
        error: The exception.
        text: The text that the author wrote, or a text with the same positions.
        lowered: What was evaluated for it.
        fuel: The number of instructions that the evaluation had.
    """
    if isinstance(error, OrderingError):
        return _ordering_error(error, text, lowered)
    if isinstance(error, AttributeError):
        return ExpressionError(f"there is no method `{error.name}` here")
    if isinstance(error, FilterError):
        return ExpressionError(str(error), *_filter_position(error.name, text))
    if isinstance(error, RecursionError):
        return ExpressionError("the expression is nested too deeply")
    if isinstance(error, TypeError) and "argument" in str(error):
        return ExpressionError("a filter or a function has arguments that do not fit")
    if not isinstance(error, TemplateError):
        return ExpressionError(str(error) or type(error).__name__)
    message = error.detail or error.message
    if message.startswith("panic"):
        return ExpressionError("the template takes more memory than allowed")
    if error.kind == "UndefinedError":
        message = message if message.startswith("`") else "the value is undefined"
        message += _IF_MISSING
    elif error.kind == "OutOfFuel":
        message = f"the template takes more than {fuel:,} steps"
    elif error.kind != "Unknown":  # else it is raised by engine/expressions/analysis.py
        message = own_message(message, is_syntax=error.kind in _SYNTAX_KINDS)
    return ExpressionError(message, *_error_position(error, text, lowered))


def without_values(error: Exception, converted: ExpressionError) -> ExpressionError:
    """Leave the values out of a message, since a value may be a part of a secret.

    Args:
        error: The exception.
        converted: What `expression_error` has made of it.
    """
    kind = error.kind if isinstance(error, TemplateError) else None
    if kind in _KINDS_WITHOUT_VALUES or isinstance(error, AttributeError | OrderingError | RecursionError):
        return converted
    message = "the evaluation fails; the reason is not shown, because the expression names a secret"
    if isinstance(error, FilterError):
        message = f"the filter `{error.name}` fails; its message is not shown, because the expression names a secret"
    elif kind == "UndefinedError":
        message = "a value is missing" + _IF_MISSING
    return ExpressionError(message, converted.line, converted.column)


def _ordering_error(error: OrderingError, text: str, lowered: Lowered) -> ExpressionError:
    spans = () if error.place is None else tuple(_without_brackets(text, span) for span in lowered.places[error.place])
    if error.name:
        return _filter_ordering_error(error, text, spans)
    missing = [index for index, kind in enumerate(error.kinds, error.operand) if kind == "undefined"]
    if missing:
        span = spans[missing[0]]
        return ExpressionError(f"`{_quoted(text, span)}` is undefined{_IF_MISSING}", *position(text, span.start))
    operands = [f"`{_quoted(text, span)}`" for span in spans[error.operand : error.operand + 2]]
    verb = "has at one index" if error.is_inside_lists else "is"
    are = " and ".join(f"{operand} {verb} {kind}" for operand, kind in zip(operands, error.kinds, strict=True))
    return ExpressionError(f"{are}; {_advice(error)}", *position(text, spans[error.operand].start))


def _without_brackets(text: str, span: Span) -> Span:
    """Return the part without brackets around all of it, as `{{ a }}` becomes `( a )`."""
    while (code := text[span.start : span.end])[:1] == "(" and code[-1:] == ")":
        inner = code[1:-1]
        depths = list(accumulate((char == "(") - (char == ")") for char in inner))
        if min(depths, default=0) < 0:
            return span
        start = span.start + 1 + len(inner) - len(inner.lstrip())
        span = Span(start, start + len(inner.strip()))
    return span


def _filter_ordering_error(error: OrderingError, text: str, spans: tuple[Span, ...]) -> ExpressionError:
    if error.is_input_missing:
        span = spans[0] if spans else None
        name = f"`{_quoted(text, span)}`" if span else f"the input of `{error.name}`"
        line, column = position(text, span.start) if span else (None, None)
        return ExpressionError(f"{name} is undefined{_IF_MISSING}", line, column)
    kinds = " and ".join("a missing value" if kind == "undefined" else kind for kind in error.kinds)
    place = position(text, spans[1].start) if spans else _filter_position(error.name, text)
    return ExpressionError(f"`{error.name}` has to order {kinds}; {_advice(error)}", *place)


def _advice(error: OrderingError) -> str:
    kinds = {*error.kinds}
    if "undefined" in kinds:
        return "leave out the items that lack the value, as in `selectattr('a.b', 'defined')`"
    if "null" in kinds:
        return "null has no order: leave it out, or give another value for it, as in `(x or 0)`"
    if kinds == {"a number", "a text"}:
        return "only values of one type have an order: convert one, as in `x | int` or `x | string`"
    if len(kinds) == 1:
        return "only numbers, texts, booleans and lists have an order"
    return "only values of one type have an order"


def _quoted(text: str, span: Span) -> str:
    quoted = " ".join(text[span.start : span.end].split())
    return quoted if len(quoted) <= MAX_OPERAND else f"{quoted[:MAX_OPERAND]}…"


def _filter_position(name: str, source: str) -> tuple[int | None, int | None]:
    """Return line and column of a filter or test, or None if it occurs more than once."""
    pattern = rf"(?:\|\s*|\bis\s+(?:not\s+)?|['\"]){re.escape(name)}(?!\w)"
    offsets = [match.end() - len(name) for match in re.finditer(pattern, source)]
    return position(source, offsets[0]) if len(offsets) == 1 else (None, None)


def _error_position(error: TemplateError, text: str, lowered: Lowered) -> tuple[int | None, int | None]:
    """Return line and column of an error of minijinja, None where it is not known."""
    if error.range is None:
        # The error of a comparison has no place, but the name of the undefined variable.
        names = (error.detail or "").split("`")[1:2]
        offset = text.find(names[0]) if names else -1
        return position(text, offset) if offset >= 0 else (error.line, None)
    evaluated = error.template_source or lowered.source
    # minijinja counts bytes, in a source that `evaluate` may have put into braces.
    offset = len(evaluated.encode()[: error.range[0]].decode(errors="ignore"))
    offset -= 2 if evaluated == "{{" + lowered.source + "\n}}" else 0
    return position(text, min(max(lowered.origin(max(offset, 0)), 0), len(text)))
