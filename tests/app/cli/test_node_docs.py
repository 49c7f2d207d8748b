"""docs/nodes.md is generated from the node types and up to date."""

from app.cli.node_docs import render_page
from engine.nodes.registry import BUILT_IN
from tests.paths import ROOT

PAGE = ROOT / "docs" / "nodes.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text() == render_page(), "the node types have changed: run make docs"


def test_the_page_contains_every_field_of_every_type() -> None:
    page = render_page()
    for node_type in BUILT_IN:
        section = page.split(f"\n## {node_type.name}\n")[1].split("\n## ")[0]
        for name, field in node_type.Config.model_json_schema().get("properties", {}).items():
            assert f"| `{name}` |" in section and field.get("title", "") in section, (node_type.name, name)


def test_nested_fields_have_their_path() -> None:
    page = render_page()
    assert "| `cases[].port` |" in page and "| `budget.tokens` |" in page
    assert page.count("|\n") == sum(line.startswith("|") for line in page.splitlines())
