"""What a change of the schema means for clients: breaking ones stop a release, dangerous ones are named. Pure.

`python -m schema.changes BEFORE.graphql` compares a file with what we serve, and fails on a breaking change.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from graphql import build_schema
from graphql.utilities import find_breaking_changes, find_dangerous_changes


@dataclass(frozen=True, slots=True)
class Changes:
    """Each a sentence."""

    breaking: list[str]
    dangerous: list[str]


def compare(before: str, after: str) -> Changes:
    old, new = build_schema(before), build_schema(after)
    return Changes(
        [change.description for change in find_breaking_changes(old, new)],
        [change.description for change in find_dangerous_changes(old, new)],
    )


def main() -> None:
    from schema.schema import as_sdl

    changes = compare(Path(sys.argv[1]).read_text(encoding="utf-8"), as_sdl())
    for kind, found in (("breaking", changes.breaking), ("dangerous", changes.dangerous)):
        for change in found:
            sys.stdout.write(f"{kind}: {change}\n")
    sys.exit(1 if changes.breaking else 0)


if __name__ == "__main__":
    main()
