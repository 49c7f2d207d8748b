"""Which breaking changes of the schema the changelog lists.

A breaking change is listed if its path, such as `Run.status`, stands in backticks in a paragraph of the
section Unreleased below `### Changed` or `### Removed`. A path of a type also lists its members.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

SECTIONS = ("Changed", "Removed")


@dataclass(frozen=True, slots=True)
class BreakingChange:
    """A change that may break a client. `path` is the type, the field or the argument."""

    path: str
    message: str


def unlisted(changes: Iterable[BreakingChange], changelog: str) -> list[BreakingChange]:
    """Return the changes that the changelog does not list."""
    listed = listed_paths(changelog)
    return [change for change in changes if not listed.intersection(_prefixes(change.path))]


def listed_paths(changelog: str) -> set[str]:
    """Return the texts in backticks in the sections for changes and removals of the next release."""
    unreleased = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:2]
    sections = re.split(r"^### ", "".join(unreleased), flags=re.MULTILINE)[1:]
    wanted = (text for text in sections if text.startswith(SECTIONS))
    return {path for text in wanted for path in re.findall(r"`([\w.]+)`", text)}


def _prefixes(path: str) -> set[str]:
    parts = path.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
