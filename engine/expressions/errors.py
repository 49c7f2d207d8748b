"""Convert every exception of an evaluation to an ExpressionError with its place in the text."""

import re
from itertools import accumulate

from minijinja import TemplateError

from engine.errors import NotStorable
from engine.expressions import ordering
from engine.expressions.advice import IF_MISSING, for_character, for_null, for_operator, operands, quoted
from engine.expressions.filters import FilterError
from engine.expressions.lexer import position
from engine.expressions.lowering import Lowered
from engine.expressions.messages import kind_name, own_message, undefined_name
from engine.expressions.ordering import OrderingError
from engine.expressions.parser import Span

_KINDS_WITHOUT_VALUES = frozenset(
    ["OutOfFuel", "UnknownFilter", "UnknownFunction", "UnknownMethod", "UnknownTest", "SyntaxError"]
)
"""Errors of minijinja whose message has names of the template and no values."""
_SYNTAX_KINDS = frozenset(["SyntaxError", "BadEscape"])
_ADVICE = {
    "which is not a text": ": put it into quotes",
    "beyond 64 bits": ": write it as a text, or as a rounded number such as `1e20`",
}
"""What to do about a result that cannot be stored, by a part of the message."""
_MAY_GIVE_NOTHING = frozenset(["first", "last", "max", "min"])
"""Filters without a value for an empty list."""
_NAME = re.compile(r"\s*(\w+)")
_COMBINED = re.compile(r"tried to use (\S+) operator on unsupported types (.+?) and (.+?)(?: \(.*\))?")


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
        return ExpressionError(
            f"{ordering.kind(error.obj)} has no method `{error.name}`", *_method_position(error.name or "", text)
        )
    if isinstance(error, FilterError):
        spans = () if error.place is None else lowered.places[error.place]
        place = position(text, spans[1].start) if len(spans) > 1 else _filter_position(error.name, text)
        return ExpressionError(str(error), *place)
    if isinstance(error, RecursionError):
        return ExpressionError("the expression is nested too deeply")
    if isinstance(error, TypeError) and "argument" in str(error):
        return ExpressionError("a filter or a function has arguments that do not fit")
    if isinstance(error, TypeError) and "unhashable" in str(error):
        return ExpressionError("a key of an object must be a text, not a list or an object")
    if isinstance(error, NotStorable):
        return ExpressionError(
            str(error) + next((advice for part, advice in _ADVICE.items() if part in str(error)), "")
        )
    if not isinstance(error, TemplateError):
        return ExpressionError(str(error) or type(error).__name__)
    message = error.detail or error.message
    if message.startswith("panic"):
        return ExpressionError("the template takes more memory than allowed")
    if error.kind == "UndefinedError":
        message = _undefined_message(message, error, text, lowered)
    elif error.kind == "OutOfFuel":
        message = f"the template takes more than {fuel:,} steps"
    elif error.kind != "Unknown":  # else it is raised by engine/expressions/analysis.py
        message = _operation_message(message, error, text, lowered) or _own_message(message, error, text, lowered)
    return ExpressionError(message, *_error_position(error, text, lowered))


def _undefined_message(message: str, error: TemplateError, text: str, lowered: Lowered) -> str:
    """Name the undefined value, or the filter that gave it."""
    if message.startswith("`null` "):
        return "`null` is undefined: null is written `none`"
    if message.startswith("`"):
        return undefined_name(message.removesuffix(" is undefined")) + IF_MISSING
    span = _error_span(error, text, lowered)
    word = _NAME.match(text, span.start) if span else None
    name = word[1] if word else ""
    return (f"`{name}` gives no value here" if name in _MAY_GIVE_NOTHING else "the value is undefined") + IF_MISSING


def _own_message(message: str, error: TemplateError, text: str, lowered: Lowered) -> str:
    is_syntax, span = error.kind in _SYNTAX_KINDS, _error_span(error, text, lowered)
    if not is_syntax or span is None:
        return own_message(message, text[span.start : span.end] if span else "", is_syntax=is_syntax)
    if message.startswith("unexpected character"):
        return for_character(text, span.start)
    advice = for_operator(text, span.start) if message.startswith("unexpected `") else ""
    return own_message(message, is_syntax=True) + (f": {advice}" if advice else "")


def _operation_message(message: str, error: TemplateError, text: str, lowered: Lowered) -> str:
    """Name the operand of an operation that is null or missing; empty if none is."""
    found, span = _COMBINED.fullmatch(message), _error_span(error, text, lowered)
    sides = operands(text[span.start : span.end], found[1]) if found and span else None
    if found is None or sides is None:
        return ""
    names = [_stripped(side) for side in sides]
    kinds = [kind_name(found[2]), kind_name(found[3])]
    for name, kind, other in zip(names, kinds, kinds[::-1], strict=True):
        if kind == "a missing value":
            return f"`{quoted(name)}` is undefined{IF_MISSING}"
        if kind == "null":
            return f"`{quoted(name)}` is null, so `{found[1]}` cannot be calculated: {for_null(name, other)}"
    return ""


def _stripped(code: str) -> str:
    """Return code without white space and brackets around all of it."""
    stripped = code.strip()
    start, end = _without_brackets(stripped, Span(0, len(stripped)))
    return stripped[start:end]


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
        message = "a value is missing" + IF_MISSING
    return ExpressionError(message, converted.line, converted.column)


def _ordering_error(error: OrderingError, text: str, lowered: Lowered) -> ExpressionError:
    spans = () if error.place is None else tuple(_without_brackets(text, span) for span in lowered.places[error.place])
    if error.name:
        return _filter_ordering_error(error, text, spans)
    missing = [index for index, kind in enumerate(error.kinds, error.operand) if kind == "undefined"]
    if missing:
        span = spans[missing[0]]
        return ExpressionError(f"`{_quoted(text, span)}` is undefined{IF_MISSING}", *position(text, span.start))
    names = [_quoted(text, span) for span in spans[error.operand : error.operand + 2]]
    verb = "has at one index" if error.is_inside_lists else "is"
    are = " and ".join(f"`{name}` {verb} {kind}" for name, kind in zip(names, error.kinds, strict=True))
    return ExpressionError(f"{are}; {_comparison_advice(error, names)}", *position(text, spans[error.operand].start))


def _comparison_advice(error: OrderingError, names: list[str]) -> str:
    for name, kind, other in zip(names, error.kinds, error.kinds[::-1], strict=True):
        if kind == "null" and not error.is_inside_lists:
            return f"null has no order: {for_null(name, other)}"
    return _advice(error)


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
        return ExpressionError(f"{name} is undefined{IF_MISSING}", line, column)
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
    return quoted(text[span.start : span.end])


def _method_position(name: str, source: str) -> tuple[int | None, int | None]:
    """Return line and column of a call of a method, or None if there is more than one."""
    offsets = [match.end() - len(name) for match in re.finditer(rf"\.\s*{re.escape(name)}(?=\s*\()", source)]
    return position(source, offsets[0]) if len(offsets) == 1 else (None, None)


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
    span = _error_span(error, text, lowered)
    return (error.line, None) if span is None else position(text, span.start)


def _error_span(error: TemplateError, text: str, lowered: Lowered) -> Span | None:
    """Return the part of the text that an error of minijinja is about; None if that is not known."""
    if error.range is None:
        return None
    evaluated = error.template_source or lowered.source
    # minijinja counts bytes, in a source that `evaluate` may have put into braces.
    encoded, braces = evaluated.encode(), 2 if evaluated == "{{" + lowered.source + "\n}}" else 0
    start, end = (len(encoded[:offset].decode(errors="ignore")) - braces for offset in error.range[:2])
    begin = min(max(lowered.origin(max(start, 0)), 0), len(text))
    last = min(max(lowered.origin(max(end - 1, 0)), begin), len(text))
    return Span(begin, min(last + 1, len(text)))
