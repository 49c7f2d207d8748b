"""Full collections of a server stay short, and cycles of frozen objects are freed."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from worker import gc_tuning
from worker.gc_tuning import FrozenObjects, frozen_objects


class Link:
    """An object of a cycle."""

    other: "Link"


@pytest.fixture
def frozen() -> Iterator[FrozenObjects]:
    with frozen_objects() as frozen:
        yield frozen


def cycle() -> "weakref.ref[Link]":
    """Make a cycle that survives a full collection, and leave it. Returns a reference to it."""
    link, other = Link(), Link()
    link.other, other.other = other, link
    gc.collect()
    return weakref.ref(link)


def test_a_full_collection_visits_no_survivors_of_an_earlier_one(frozen: FrozenObjects) -> None:
    before = gc.get_freeze_count()
    links = [Link() for _ in range(1000)]
    gc.collect()
    assert gc.get_freeze_count() >= before + 1000
    assert sum(type(one) is Link for one in gc.get_objects(generation=2)) == 0
    assert links


@pytest.mark.parametrize(("is_idle", "growth", "most", "is_freed"), [
    (True, -1, 10**9, True),
    (False, -1, 10**9, False),
    (False, -1, -1, True),
    (True, 10**9, 10**9, False),
])  # fmt: skip
def test_many_frozen_objects_are_released_when_nobody_is_connected_or_before_they_fill_the_memory(
    frozen: FrozenObjects,
    monkeypatch: pytest.MonkeyPatch,
    is_idle: bool,
    growth: int,
    most: int,
    is_freed: bool,
) -> None:
    link = cycle()
    gc.collect()
    assert link() is not None  # It is garbage, and frozen.
    monkeypatch.setattr(gc_tuning, "MAX_GROWTH", growth)
    monkeypatch.setattr(gc_tuning, "MOST_GROWTH", most)
    assert frozen.release(is_idle) is is_freed
    assert (link() is None) is is_freed


def test_after_the_end_nothing_is_frozen() -> None:
    with frozen_objects():
        link = cycle()
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert link() is None
    assert gc.get_freeze_count() == 0
