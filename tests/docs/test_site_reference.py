"""The reference of the API has every field, argument and type of the schema, with its description."""

import re

import pytest
from graphql import build_schema, is_specified_scalar_type

from docs.site.reference import pages
from tests.paths import ROOT

SDL = (ROOT / "schema" / "schema.graphql").read_text("utf-8")
PAGES = pages(SDL)
SCHEMA = build_schema(SDL)


@pytest.mark.parametrize("name", ["query", "mutation", "subscription"])
def test_each_operation_has_a_section(name: str) -> None:
    root = SCHEMA.type_map[name.capitalize()]
    page = PAGES["queries" if name == "query" else f"{name}s"]
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == sorted(root.fields)  # type: ignore[attr-defined]


def test_each_type_has_a_section_to_which_links_lead() -> None:
    sections = {name.lower() for name in re.findall(r"^## (\w+)$", PAGES["types"], re.MULTILINE)}
    linked = {name for page in PAGES.values() for name in re.findall(r"types\.md#(\w+)\)", page)}
    assert linked <= sections
    assert len(sections) == len(
        [
            kind
            for name, kind in SCHEMA.type_map.items()
            if not name.startswith("__")
            and name not in ("Query", "Mutation", "Subscription")
            and not is_specified_scalar_type(kind)
        ]
    )


def test_the_fields_of_an_input_stand_with_its_mutation() -> None:
    section = PAGES["mutations"].split("## createTrigger\n")[1].split("\n## ")[0]
    assert re.search(r"^\| `kind` \| `String!` \| \S.+ \|$", section, re.MULTILINE)
    assert "| `enabled` | `Boolean` |" in section and "Default: true." in section


def test_a_value_of_a_description_does_not_end_its_cell() -> None:
    types = pages('"A." type Query { "a | b\\n\\nc" f("default" x: Int = 3): Int @deprecated(reason: "Old.") }')[
        "queries"
    ]
    assert "| `x` | `Int` | default Default: `3`. |" in types
    assert "a | b\n\nc" in types
