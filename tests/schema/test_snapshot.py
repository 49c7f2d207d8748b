"""The printed schema is committed; a change that breaks clients fails, and a dangerous one is named."""

import subprocess

import pytest
from graphql import build_schema

from app.cli.schema_changes import compare
from schema.schema import as_sdl
from tests.paths import ROOT

SNAPSHOT = ROOT / "schema" / "schema.graphql"
TARGET_TYPES = ("Workflow", "WorkflowDraft", "WorkflowVersion", "Run", "NodeState", "Checkpoint", "SpecReport")


def committed() -> str | None:
    """The snapshot as the last commit has it; None where there is none, or no git."""
    shown = subprocess.run(
        ["git", "show", "HEAD:schema/schema.graphql"], cwd=SNAPSHOT.parent, capture_output=True, text=True, check=False
    )
    return shown.stdout if shown.returncode == 0 else None


def test_the_committed_schema_is_the_one_we_serve() -> None:
    assert SNAPSHOT.read_text(encoding="utf-8") == as_sdl(), "run `make schema`, and look at what has changed"


def test_nothing_breaks_clients_of_the_last_commit() -> None:
    before = committed()
    changes = compare(before or as_sdl(), as_sdl())
    print(*(f"dangerous: {change}" for change in changes.dangerous), sep="\n")  # noqa: T201
    assert changes.breaking == []


def test_what_we_serve_is_a_valid_schema() -> None:
    served = build_schema(as_sdl())
    assert set(TARGET_TYPES) <= set(served.type_map)


@pytest.mark.parametrize(
    ("before", "after", "breaking", "dangerous"),
    [
        ("type Query { a: Int b: Int }", "type Query { a: Int }", ["Field Query.b was removed."], []),
        ("type Query { a: E } enum E { X }", "type Query { a: E } enum E { X Y }", [], ["Enum value E.Y was added."]),
        ("type Query { a: Int }", "type Query { a: Int b: Int }", [], []),
    ],
)
def test_a_removed_field_breaks_and_a_new_enum_value_is_dangerous(
    before: str, after: str, breaking: list[str], dangerous: list[str]
) -> None:
    changes = compare(before, after)
    assert (changes.breaking, changes.dangerous) == (breaking, dangerous)
