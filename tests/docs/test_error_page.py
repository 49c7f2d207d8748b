"""docs/errors.md has every code that a client can see, with cause and remedy, and is current."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from docs.reference.errors import SECTIONS, read_texts, render_page
from persistence.problems import ProblemCode
from tests.paths import ROOT

TEXTS = read_texts()
CODE = re.compile(r"[A-Z]{2,}(?:_[A-Z]+)*")
CREATORS = ("FieldProblem", "invalid", "_problem", "_edge", "_refuse")
"""The functions that create a problem of a field, and are called with its code."""
FOLDERS = {"engine/fork": "fork", "engine/triggers": "input", "engine": "spec"}
"""The section of the codes that the modules of a folder create. All other folders check inputs."""
SHARED = ROOT / "engine/values/json_schema.py"
"""Checks schemas of specs as well as the inputs of runs."""


def problem_codes() -> dict[str, set[str]]:
    """The codes of problems that the code creates, by section."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in ("engine", "persistence", "resolvers", "schema", "app"):
        for path in (ROOT / package).rglob("*.py"):
            found["shared" if path == SHARED else section(path)] |= codes_of(path)
    return found


def section(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    return next((section for folder, section in FOLDERS.items() if name.startswith(f"{folder}/")), "input")


def codes_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and name_of(node.func) in CREATORS]
    constants = [argument for call in calls for argument in call.args if isinstance(argument, ast.Constant)]
    # `templates.py` passes a code together with its message, or returns both.
    pairs = [node.elts[0] for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    if path.name == "templates.py":
        constants += [one for one in pairs if isinstance(one, ast.Constant)]
    return {one.value for one in constants if isinstance(one.value, str) and CODE.fullmatch(one.value)}


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


FOUND = problem_codes()
OF_CATALOG = {"MODEL_UNKNOWN", "TOOL_UNKNOWN", "TOOL_FAILED"}
"""Codes of nodes that the validation of a spec shows as warnings."""
APQ = {"PERSISTED_QUERY_NOT_FOUND", "PERSISTED_QUERY_NOT_SUPPORTED"}


def test_the_committed_page_is_current() -> None:
    assert (ROOT / "docs" / "errors.md").read_text("utf-8") == render_page(), "run make docs"


def test_it_has_every_code_of_a_request_and_no_other() -> None:
    assert TEXTS["request"].keys() == {*ProblemCode, *APQ}


def test_it_has_every_code_of_a_fork_and_no_other() -> None:
    assert TEXTS["fork"].keys() == FOUND["fork"]


def test_it_has_every_code_of_a_spec_and_no_other() -> None:
    assert FOUND["spec"] | OF_CATALOG <= TEXTS["spec"].keys()
    assert TEXTS["spec"].keys() <= FOUND["spec"] | OF_CATALOG | FOUND["shared"]


def test_it_has_every_code_of_an_input_and_no_other() -> None:
    assert FOUND["input"] <= TEXTS["input"].keys()
    assert TEXTS["input"].keys() <= FOUND["input"] | FOUND["shared"]
    assert FOUND["shared"] <= TEXTS["input"].keys() | TEXTS["spec"].keys()


@pytest.mark.parametrize("name", SECTIONS)
def test_each_code_has_all_columns_as_sentences(name: str) -> None:
    columns = set(SECTIONS[name][2])
    for code, texts in TEXTS[name].items():
        assert texts.keys() - {"severity"} == columns, code
        for column in ("cause", "remedy"):
            assert re.fullmatch(r"[`A-Z].+[.…]", texts[column]), (code, column)
