"""The pages that `make setup` built are complete, self-contained, and have valid examples."""

import re
from functools import cache
from pathlib import Path

import orjson
import pytest
from graphql import GraphQLSchema, OperationDefinitionNode, build_schema, parse, validate
from graphql.execution.values import get_variable_values
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.paths import ROOT
from web import site
from web.build import WEB
from web.check import MAX_FIRST_LOAD, first_load

OPERATIONS = sorted((WEB / "src" / "graphiql" / "operations").glob("*.graphql"))
SCHEMA = ROOT / "schema" / "schema.graphql"


@cache
def committed_schema() -> GraphQLSchema:
    return build_schema(SCHEMA.read_text())


PAGES = [site.STUDIO, site.GRAPHIQL]


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_the_page_names_is_served(name: str) -> None:
    page = bytes(site.page(name=name).body).decode()
    names = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page)
    assert len(names) >= 3
    with TestClient(Starlette(routes=site.routes())) as browser:
        assert {name: browser.get(f"/{name}").status_code for name in names} == dict.fromkeys(names, 200)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_names_no_other_host_and_has_no_inline_script(name: str) -> None:
    page = bytes(site.page(name=name).body).decode()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []


def test_the_browser_loads_little_script_before_the_canvas_shows() -> None:
    """`make check` checks it too; a view of the editors or of GraphiQL loads its own."""
    assert first_load(site.DIST) < MAX_FIRST_LOAD


def test_editor_and_workers_are_in_the_bundle_and_no_other_languages() -> None:
    names = [file.name for file in (site.DIST / "assets").iterdir()]
    for part in ("editor.worker", "json.worker", "graphql.worker", "monaco-editor"):
        assert any(name.startswith(part) for name in names), part
    assert not any(name.startswith(("ts.worker", "css.worker", "html.worker")) for name in names)


def test_the_licences_of_the_bundled_packages_are_included() -> None:
    licences = (site.DIST / "LICENSES.txt").read_text()
    for package in (
        "react",
        "@xyflow/react",
        "@rjsf/core",
        "urql",
        "zustand",
        "graphiql",
        "graphql-ws",
        "monaco-editor",
        "monaco-graphql",
        "graphql-language-service",
    ):
        assert re.search(rf"^{package} \d", licences, re.MULTILINE), package


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda file: file.stem)
def test_each_example_is_valid_in_the_schema(operation: Path) -> None:
    assert validate(committed_schema(), parse(operation.read_text())) == []


@pytest.mark.parametrize(
    "variables", sorted((WEB / "src" / "graphiql" / "operations").glob("*.json")), ids=lambda file: file.stem
)
def test_example_variables_match_their_operation(variables: Path) -> None:
    (operation,) = parse(variables.with_suffix(".graphql").read_text()).definitions
    assert isinstance(operation, OperationDefinitionNode)
    values = orjson.loads(variables.read_bytes())
    coerced = get_variable_values(committed_schema(), list(operation.variable_definitions), values)
    assert set(values) <= {definition.variable.name.value for definition in operation.variable_definitions}
    assert not isinstance(coerced, list), coerced


def test_the_tab_that_lists_runs_has_no_filter() -> None:
    """A user who has just started a run looks for it there, in any status."""
    assert orjson.loads((WEB / "src" / "graphiql" / "operations" / "list_runs.json").read_bytes())["filter"] == {}


@pytest.mark.parametrize("page", [SCHEMA.parents[1] / "README.md", *sorted((SCHEMA.parents[1] / "docs").glob("*.md"))])
def test_graphql_examples_in_the_documentation_are_valid(page: Path) -> None:
    for text in re.findall(r"```graphql\n(.*?)```", page.read_text(), re.DOTALL):
        assert validate(committed_schema(), parse(text)) == [], text
