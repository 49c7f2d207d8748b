"""Compares two JSON values field by field. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from engine.problems import join_path
from engine.types import JSON

MAX_DIFFERENCES = 1_000
"""Differences of one pair of values."""
MAX_DEPTH = 50
"""Levels that are compared by field; deeper values are compared as a whole."""


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """A field with different values. A value is None if the field is absent, or null."""

    path: str
    before: JSON
    after: JSON


def json_diff(before: JSON, after: JSON, path: str = "") -> list[FieldDiff]:
    """Return the fields that differ, at most MAX_DIFFERENCES. Lists of different lengths differ as a whole."""
    return list(islice(_differences(before, after, path, 0), MAX_DIFFERENCES))


def same_json(one: JSON, other: JSON) -> bool:
    """Return whether two JSON values are equal. Unlike in Python, `1` is not `true`."""
    return next(_differences(one, other, "", 0), None) is None


def _differences(before: JSON, after: JSON, path: str, depth: int) -> Iterator[FieldDiff]:
    if depth < MAX_DEPTH and isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            if name in before and name in after:
                yield from _differences(before[name], after[name], join_path(path, name), depth + 1)
            else:
                yield FieldDiff(join_path(path, name), before.get(name), after.get(name))
    elif depth < MAX_DEPTH and isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _differences(*pair, join_path(path, index), depth + 1)
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield FieldDiff(path, before, after)
