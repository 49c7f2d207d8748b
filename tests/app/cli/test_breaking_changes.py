"""A breaking change of the schema is accepted only if the changelog lists it."""

import pytest

from tests.contract.changelog import BreakingChange, unlisted

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- `Run.added`

### Changed

- `Run.status` is an enum.

### Removed

- `Draft`, which nobody used.

## [0.1.0]

### Removed

- `Run.old`
"""


@pytest.mark.parametrize(
    ("path", "is_listed"),
    [
        ("Run.status", True),
        ("Run.status.argument", True),
        ("Draft", True),
        ("Draft.spec", True),
        ("Run", False),
        ("Run.added", False),
        ("Run.old", False),
        ("Run.statuses", False),
        ("", False),
    ],
)
def test_a_breaking_change_must_be_below_changed_or_removed(path: str, is_listed: bool) -> None:
    change = BreakingChange(path, "It was removed")
    assert unlisted([change], CHANGELOG) == ([] if is_listed else [change])


def test_a_changelog_without_sections_lists_nothing() -> None:
    assert unlisted([BreakingChange("Run", "")], "# Changelog\n") == [BreakingChange("Run", "")]
