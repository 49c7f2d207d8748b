"""Compares two GraphQL schemas: lists breaking changes, which stop a release, and dangerous ones.

`python -m app.cli.schema_changes BEFORE.graphql` compares a file with the schema of this version,
and exits with 1 on a breaking change. The rules are those of graphql-core.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from graphql import build_schema
from graphql.utilities import find_breaking_changes, find_dangerous_changes


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """Changes as sentences, one for each."""

    breaking: list[str]
    dangerous: list[str]


def compare(before: str, after: str) -> SchemaChanges:
    """Return the changes from one schema to another, both in SDL."""
    old, new = build_schema(before), build_schema(after)
    return SchemaChanges(
        [change.description for change in find_breaking_changes(old, new)],
        [change.description for change in find_dangerous_changes(old, new)],
    )


def main() -> None:
    from schema.schema import as_sdl

    changes = compare(Path(sys.argv[1]).read_text(encoding="utf-8"), as_sdl())
    for kind, descriptions in (("breaking", changes.breaking), ("dangerous", changes.dangerous)):
        for description in descriptions:
            sys.stdout.write(f"{kind}: {description}\n")
    sys.exit(1 if changes.breaking else 0)


if __name__ == "__main__":
    main()
