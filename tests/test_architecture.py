"""Every place that the documents about the code name exists, and every package is drawn."""

import ast
import re
import tomllib
from functools import cache

import pytest

from tests.paths import ROOT

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PAGES = ("architecture.md", "glossary.md", "state_machine.md")
PLACE = re.compile(r"`([a-z_]+(?:/[\w.]+)+?/?)(?:: (\w+))?`")
"""A path in the repository, and the function or class in it, as in `engine/states.py: check_transition`."""
LIMITS = {
    "A node type": 2,
    "A mutation": 5,
    "An event": 5,
    "A column of runs": 6,
    "A column of node states": 4,
    "A setting": 2,
    "A trigger kind": 2,
}
"""The number of files that a change of each kind may touch at most."""


@cache
def definitions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def places(page: str) -> list[tuple[str, str]]:
    """The paths of a page below one of our folders, each with its name or an empty text."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    return [(path, name) for path, name in PLACE.findall(text) if (ROOT / path.split("/")[0]).is_dir()]


@pytest.mark.parametrize("page", PAGES)
def test_every_place_that_a_document_names_exists(page: str) -> None:
    named = places(page)
    assert len(named) > 20
    missing = [path for path, _ in named if not (ROOT / path).exists()]
    assert missing == []
    assert [(path, name) for path, name in named if name and name not in definitions(path)] == []


def test_every_file_that_any_document_names_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = {(path, page.name) for page in pages for path, _ in PLACE.findall(page.read_text("utf-8"))}
    files = {
        (path, page) for path, page in named if path.endswith((".py", ".md")) and (ROOT / path.split("/")[0]).is_dir()
    }
    assert len(files) > 50
    assert {(path, page) for path, page in files if not (ROOT / path).is_file()} == set()


def test_every_link_between_documents_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text("utf-8")
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)", text):
            file = (page.parent / target).resolve() if target else page
            assert file.exists(), (page.name, target)
            assert not anchor or anchor in anchors(file.read_text("utf-8")), (page.name, target, anchor)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_path_of_a_run_names_a_function_at_every_hop() -> None:
    path = ARCHITECTURE.split("\n## The path of a run\n")[1].split("\n## ")[0]
    rows = [line for line in path.splitlines() if line.startswith("| ") and "`" in line]
    assert sum(row.startswith("| ") and row[2].isdigit() for row in rows) == 7
    without_function = [row for row in rows for _, name in PLACE.findall(row) or [("", "")] if not name]
    assert without_function == []


def test_every_package_of_the_import_contracts_is_drawn() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    for package in settings["root_packages"]:
        assert f'    {package}["' in ARCHITECTURE, package
    for contract in settings["contracts"]:
        for container in contract.get("containers", ()):
            section = ARCHITECTURE.split(f"| `{container}` | Content |")[1].split("\n\n")[0]
            rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in section.splitlines()[2:]]
            assert [set(row) for row in rows] == [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def test_each_decision_has_a_number_of_its_own_and_the_four_parts() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        assert re.findall(r"^(?:\*\*|## )(\w+)", text, re.MULTILINE)[0] == "Status", page.name
        assert re.findall(r"^## (\w+)", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], page.name


def test_each_kind_of_change_touches_few_files() -> None:
    counts = dict(re.findall(r"^### (.+): (\d+) files", ARCHITECTURE, re.MULTILINE))
    assert set(counts) == set(LIMITS)
    assert {kind: count for kind, count in counts.items() if int(count) > LIMITS[kind]} == {}
