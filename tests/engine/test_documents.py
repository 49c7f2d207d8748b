"""The documents list exactly the error codes and catalog file fields that the code has."""

import ast
import re
import tomllib
from collections.abc import Iterator

import pytest

from docs.reference.errors import read_texts
from engine.catalog_file import CatalogEntry, CatalogFile, McpServer, ModelEntry, SqlDatabase
from engine.errors import NODE_CODES, RUN_CODES
from tests.paths import ROOT

TEXTS = read_texts()
ERRORS = ("NodeFailure", "RunError", "Unsent")
WORD = re.compile(r"[A-Z]{2,}(?:_[A-Z]+)*")
FENCED = "FENCED"
"""The code of a run whose worker lost its lease. It is never shown to a client."""


def codes() -> Iterator[str]:
    """Every code that an error is created with in the server and worker packages."""
    for package in ("engine", "persistence", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and node.args:
                    yield from _words(node.args[0])
    for node in ast.walk(ast.parse((ROOT / "engine/chat_models/errors.py").read_text())):
        if isinstance(node, ast.Tuple):
            yield from _words(node.elts[0])


def _words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value):
        yield node.value


def test_the_page_of_errors_has_every_code_of_an_error_and_no_other() -> None:
    expected = set(codes()) - {FENCED}
    assert {"HTTP_STATUS", "MODEL_RATE_LIMIT", "TOOL_FAILED", "RECURSION"} <= expected
    assert {*TEXTS["node"], *TEXTS["run"]} == expected


def test_the_codes_of_nodes_and_of_runs_are_those_that_the_code_knows() -> None:
    assert TEXTS["node"].keys() == NODE_CODES
    assert TEXTS["run"].keys() == RUN_CODES - NODE_CODES


@pytest.mark.parametrize(
    ("page", "entry"), [("models.md", ModelEntry), ("tools.md", McpServer), ("tools.md", SqlDatabase)]
)
def test_every_field_of_the_catalog_file_is_documented(page: str, entry: type[CatalogEntry]) -> None:
    words = re.findall(r"`(\w+)", (ROOT / "docs" / page).read_text())
    assert set(entry.model_fields) <= set(words)


def test_the_catalog_files_in_the_documents_are_valid() -> None:
    blocks = [
        block
        for page in ("models.md", "tools.md")
        for block in re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
        if "[project" not in block  # the pyproject.toml of a package
    ]
    assert blocks
    for block in [*blocks, (ROOT / "examples" / "treadle.toml").read_text()]:
        CatalogFile.model_validate(tomllib.loads(block))
