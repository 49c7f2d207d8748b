"""Validation and evaluation know the same filters, tests and functions, and nothing beyond them."""

import re
from pathlib import Path

import minijinja
import pytest

from engine.expressions import environment
from engine.expressions.errors import ExpressionError
from engine.expressions.evaluator import check, evaluate
from engine.expressions.names import FILTERS, FUNCTIONS, TESTS
from tests.paths import ROOT

DOCUMENT = (ROOT / "docs/expressions.md").read_text()


def words() -> set[str]:
    """Return every word that can be a name in the library. Its names follow each other without a space."""
    [library] = Path(minijinja.__file__).parent.glob("_lowlevel.*.so")
    found: set[str] = set()
    for chunk in {chunk.decode() for chunk in re.findall(rb"[a-z_]{1,400}", library.read_bytes())}:
        found |= {chunk[start : start + size] for start in range(len(chunk)) for size in range(1, 17)}
    return found


def is_unknown(code: str) -> bool:
    try:
        environment._ENVIRONMENT.eval_expr(code)
    except minijinja.TemplateError as error:
        return error.kind in ("UnknownFilter", "UnknownTest", "UnknownFunction", "UndefinedError", "SyntaxError")
    except Exception:
        return False
    return False


def test_the_library_has_no_filter_test_or_function_beyond_the_lists() -> None:
    candidates = words()
    assert FILTERS - {"fromjson"} - {name for name in FILTERS if "datetime" in name} <= candidates
    assert {name for name in candidates if not is_unknown(f"''|{name}")} - FILTERS == set()
    assert {name for name in candidates if not is_unknown(f"'' is {name}")} - TESTS == set()
    values = {"true", "false", "none", "not"}
    defined = {name for name in candidates if name.isalpha() and not is_unknown(f"{name} ~ ''")}
    assert defined - FUNCTIONS - values == set()


@pytest.mark.parametrize("name", sorted(FILTERS | {"truncate", "wordwrap", "striptags", "pluralize", "filesizeformat"}))
def test_a_filter_is_known_to_validation_and_to_evaluation(name: str) -> None:
    for code in (f"'' | {name}", f"[''] | map('{name}') | list"):
        assert (check(code, expression=True) == []) == (name in FILTERS) == (not is_refused(code)), code


@pytest.mark.parametrize("name", sorted(TESTS | {"safe", "escaped", "filter", "test", "null"}))
def test_a_test_is_known_to_validation_and_to_evaluation(name: str) -> None:
    by_name = [f"[1] | select('{name}', 1)", f"[{{'a': 1}}] | rejectattr('a', '{name}', 1)"]
    for code in [f"1 is {name}", f"1 is not {name}", *by_name] if name.isalpha() else by_name:
        assert (check(code, expression=True) == []) == (name in TESTS) == (not is_refused(code)), code


@pytest.mark.parametrize(
    "code", ["range(1)", "dict(a=1)", "range", "dict", "debug()", "cycler(1)", "upper('a')", "loop()", "super()"]
)
def test_a_function_is_known_to_validation_and_to_evaluation(code: str) -> None:
    known = code in ("range(1)", "dict(a=1)")
    assert (check(code, expression=True) == []) == known == (not is_refused(code))


def test_every_filter_test_and_function_is_documented() -> None:
    names = {name for name in FILTERS | TESTS | FUNCTIONS if name.isalpha()}
    assert {name for name in names if not re.search(rf"\b{name}\b", DOCUMENT)} == set()


def is_refused(code: str) -> bool:
    try:
        evaluate(code, {})
    except ExpressionError as error:
        return "there is no " in error.message or "is a function" in error.message
    return False
