"""The printed schema is committed.

A change that breaks clients fails the test, and a dangerous one is printed.
"""

import subprocess

import pytest
from graphql import build_schema

from app.cli.schema_changes import compare
from schema.schema import as_sdl
from tests.paths import ROOT

SNAPSHOT = ROOT / "schema" / "schema.graphql"
TARGET_TYPES = ("Workflow", "WorkflowDraft", "WorkflowVersion", "Run", "NodeState", "Checkpoint", "SpecReport")


def committed() -> str | None:
    """Return the snapshot of the last commit; None if there is no snapshot or no git."""
    process = subprocess.run(
        ["git", "show", "HEAD:schema/schema.graphql"], cwd=SNAPSHOT.parent, capture_output=True, text=True, check=False
    )
    return process.stdout if process.returncode == 0 else None


def test_the_committed_schema_is_the_served_one() -> None:
    assert SNAPSHOT.read_text(encoding="utf-8") == as_sdl(), "run `make schema`, and review the changes"


def test_no_change_since_the_last_commit_breaks_clients() -> None:
    before = committed()
    changes = compare(before or as_sdl(), as_sdl())
    print(*(f"dangerous: {change}" for change in changes.dangerous), sep="\n")  # noqa: T201
    assert changes.breaking == []


def test_the_served_schema_is_valid() -> None:
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
