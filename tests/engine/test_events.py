"""Tests of the values of events."""

from engine.events import Usage


def test_usages_add_up_and_one_unknown_cost_makes_the_sum_unknown() -> None:
    assert Usage("a", 1, 2, 0.5) + Usage("b", 10, 20, 0.25) == Usage("b", 11, 22, 0.75)
    assert Usage("a", 1, 2) + Usage("a", 10, 20, 0.25) == Usage("a", 11, 22)
