"""docs/nodes.md is what the node types say."""

from app.cli.node_docs import page
from engine.nodes.registry import BUILT_IN
from tests.paths import ROOT

PAGE = ROOT / "docs" / "nodes.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text() == page(), "the node types have changed: run make docs"


def test_every_field_of_every_type_is_on_it() -> None:
    told = page()
    for kind in BUILT_IN:
        section = told.split(f"\n## {kind.name}\n")[1].split("\n## ")[0]
        for name, field in kind.Config.model_json_schema().get("properties", {}).items():
            assert f"| `{name}` |" in section and field.get("title", "") in section, (kind.name, name)


def test_fields_inside_fields_are_told_where_they_are() -> None:
    told = page()
    assert "| `cases[].port` |" in told and "| `budget.tokens` |" in told
    assert told.count("|\n") == sum(line.startswith("|") for line in told.splitlines())
