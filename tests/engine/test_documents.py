"""The documents list exactly the error codes and catalog file fields that the code has."""

import ast
import re
import tomllib
from collections.abc import Iterator

import pytest

from engine.catalog_file import CatalogEntry, CatalogFile, McpServer, ModelEntry, SqlDatabase
from engine.errors import NODE_CODES
from tests.paths import ROOT

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


def documented(page: str, heading: str) -> set[str]:
    """The codes in a section's tables and sentences."""
    text = (ROOT / "docs" / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return {word for word in re.findall(r"`([^`]+)`", text) if WORD.fullmatch(word)}


def test_the_documents_list_every_error_code_and_no_other() -> None:
    expected = set(codes()) - {FENCED}
    assert {"HTTP_STATUS", "MODEL_RATE_LIMIT", "TOOL_FAILED", "RECURSION"} <= expected
    assert documented("spec.md", "Errors") == expected


def test_the_codes_of_nodes_are_those_of_the_table_of_nodes() -> None:
    text = (ROOT / "docs" / "spec.md").read_text().split("\n## Errors\n")[1].split("A run also fails")[0]
    rows = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    assert {word for word in re.findall(r"`([^`]+)`", rows) if WORD.fullmatch(word)} == NODE_CODES


def test_the_document_of_models_lists_every_code_of_model_errors() -> None:
    models = {code for code in codes() if code.startswith("MODEL_")}
    assert documented("models.md", "What can go wrong") == {*models, "BUDGET"}


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
