"""Collect the results of the expressions in templates that name `secrets`, so that they are hidden.

The unit is one `{{ … }}`: its result is hidden whole, whatever it computes from the secret. A
template whose statements name a secret or change what is printed (`{% set x = secrets.key %}`,
`{% filter upper %}`) is one unit with all of its expressions. Nothing is collected outside of
`collecting`, where `secrets` is an ordinary name. The module has no state beyond one evaluation.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.expressions.analysis import names_secrets
from engine.expressions.lexer import TemplatePart, segments, statement_word
from engine.expressions.views import to_plain
from engine.types import JSON

FILTER = "__collect_result"
"""The filter that collects the result of an expression. Validation refuses it in a template."""
MAX_RESULTS = 1_000
"""Results of one evaluation."""
# Statements that neither bind a name to what is printed nor change it.
_PLAIN_STATEMENTS = frozenset({"if", "elif", "else", "endif", "for", "endfor", "with", "endwith", "raw", "endraw"})


class _Collector(threading.local):
    """The results of the current evaluation of this thread; None if none are collected."""

    results: list[JSON] | None = None


_collector = _Collector()


@contextmanager
def collecting(results: list[JSON] | None) -> Iterator[None]:
    """Add the results of expressions that name secrets to a list; None collects nothing."""
    before, _collector.results = _collector.results, results
    try:
        yield
    finally:
        _collector.results = before


def is_collecting() -> bool:
    """Tell whether results are collected, so that `secrets` holds real secrets."""
    return _collector.results is not None


def collect(value: Any) -> Any:
    """Collect a result, and return it. Booleans and null say too little about a secret."""
    plain, results = to_plain(value), _collector.results
    if results is not None and not (plain is None or isinstance(plain, bool)) and len(results) <= MAX_RESULTS:
        results.append(plain)
    return value


def is_one_unit(text: str) -> bool:
    """Tell whether the statements of a template make it one unit, with all that it prints."""
    return any(
        segment.part is TemplatePart.STATEMENT and _taints(text[segment.start : segment.end])
        for segment in segments(text)
    )


def with_collection(text: str) -> str:
    """Change a template so that it collects the result of each expression that names a secret."""
    all_expressions = is_one_unit(text)
    parts, done = [], 0
    for segment in segments(text):
        code = text[segment.start : segment.end]
        if segment.part is TemplatePart.EXPRESSION and (all_expressions or names_secrets(code)):
            parts += [text[done : segment.start], _filtered(code)]
            done = segment.end
    return "".join([*parts, text[done:]])


def _taints(code: str) -> bool:
    word = statement_word(code)
    is_plain = (word in _PLAIN_STATEMENTS and "recursive" not in code) or (word == "set" and "=" in code)
    return not is_plain or names_secrets(code)


def _filtered(code: str) -> str:
    """Apply the filter to an expression. `-` and `+` at its ends control white space."""
    before = code[:1] if code[:1] in ("-", "+") else ""
    after = code[-1:] if code[-1:] in ("-", "+") else ""
    inner = code[len(before) : len(code) - len(after)]
    return f"{before} ({inner}) | {FILTER} {after}"
