"""The layout of the repository: documents and package docstrings name what exists, and names are unique."""

import ast
import re
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.paths import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
PACKAGES = (*SETTINGS["hatch"]["build"]["targets"]["wheel"]["packages"], "bench")
MOST_MODULES = 16
LISTED = re.compile(r"^(?:- |    )((?:`?\w+`?(?:, )?)+): ", re.MULTILINE)
"""A line of a package's docstring that lists modules, as in "- `plan`: ..." or "    start, end: ..."."""
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PAGES = ("architecture.md", "glossary.md", "state_machine.md")
PLACE = re.compile(r"`([a-z_]+(?:/[\w.]+)+?/?)(?:: (\w+))?`")
"""A path in the repository, and the function or class in it, as in `engine/states.py: check_transition`."""
LIMITS = {
    "A node type": 2,
    "A mutation": 5,
    "An event": 5,
    "A column of runs": 6,
    "A table": 3,
    "A column of node states": 4,
    "A setting": 2,
    "A trigger kind": 2,
    "A view of the studio": 4,
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
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")]:
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
    for package in SETTINGS["importlinter"]["root_packages"]:
        assert f'    {package}["' in ARCHITECTURE, package
    for contract in SETTINGS["importlinter"]["contracts"]:
        for container in contract.get("containers", ()):
            section = ARCHITECTURE.split(f"| `{container}` | Content |")[1].split("\n\n")[0]
            rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in section.splitlines()[2:]]
            assert [set(row) for row in rows] == [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]


def test_each_decision_has_a_number_of_its_own_and_the_four_parts() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers == sorted(set(numbers))
    for page in pages:
        text = page.read_text("utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        assert re.findall(r"^(?:\*\*|## )(\w+)", text, re.MULTILINE)[0] == "Status", page.name
        assert re.findall(r"^## (\w+)", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], page.name


def test_each_kind_of_change_touches_few_files() -> None:
    counts = dict(re.findall(r"^### (.+): (\d+) files", ARCHITECTURE, re.MULTILINE))
    assert set(counts) == set(LIMITS)
    assert {kind: count for kind, count in counts.items() if int(count) > LIMITS[kind]} == {}


@cache
def folders(*roots: str) -> dict[Path, list[Path]]:
    """The Python files of each folder below `roots`, at any depth. Folders without such files are left out."""
    files = defaultdict(list)
    for root in roots:
        for file in sorted((ROOT / root).rglob("*.py")):
            if "node_modules" not in file.parts:
                files[file.parent.relative_to(ROOT)].append(file)
    return files


def test_the_docstring_of_each_package_lists_exactly_its_modules_and_packages() -> None:
    packages = folders(*PACKAGES)
    assert len(packages) > 40
    for package, files in packages.items():
        docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text("utf-8"))) or ""
        listed = [name for names in LISTED.findall(docstring) for name in re.findall(r"\w+", names)]
        modules = [file.stem for file in files if file.stem != "__init__"]
        assert sorted(listed) == sorted([*modules, *(other.name for other in packages if other.parent == package)]), (
            f"{package}/__init__.py"
        )


def test_no_folder_holds_more_than_sixteen_modules() -> None:
    counts = {
        folder: sum(file.stem != "__init__" for file in files) for folder, files in folders(*PACKAGES, "tests").items()
    }
    del counts[Path("persistence/migrations/versions")]  # It grows by one module with each revision.
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_the_folders_of_tests_are_no_packages() -> None:
    assert [
        folder for folder, files in folders("tests").items() if any(file.stem == "__init__" for file in files)
    ] == []


def test_each_class_name_exists_once_in_the_repository() -> None:
    places = defaultdict(list)
    for file in (file for files in folders(*PACKAGES, "tests").values() for file in files):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert {name: lines for name, lines in places.items() if len(lines) > 1} == {}


def test_lock_files_have_no_addresses() -> None:
    tops = ("clients", "deploy", "tests", "web")
    found = [file for top in tops for name in ("*.lock", "package-lock.json") for file in (ROOT / top).rglob(name)]
    locks = [ROOT / "requirements.lock", *(file for file in found if "node_modules" not in file.parts)]
    assert len(locks) >= 7
    assert [file for file in locks if "://" in file.read_text("utf-8")] == []
