"""The difference between the clocks of a host and of the database."""

from datetime import UTC, datetime, timedelta

import pytest

from persistence.db.clock_skew import ClockSkew

HOUR = timedelta(hours=1)


def offset_after(*measures: tuple[timedelta, float]) -> timedelta:
    """Return the offset after measures of (difference, seconds of the reply), to the minute."""
    skew = ClockSkew()
    for difference, reply_s in measures:
        skew.measure(datetime.now(UTC) + difference, reply_s)
    return timedelta(minutes=round(skew.offset / timedelta(minutes=1)))


@pytest.mark.parametrize("difference", [HOUR, -HOUR])
def test_a_quick_reply_sets_the_offset(difference: timedelta) -> None:
    assert offset_after((difference, 0.01)) == difference
    assert offset_after((difference, 0.01), (timedelta(), 0.01)) == timedelta()


def test_a_small_difference_counts_as_none() -> None:
    assert offset_after((timedelta(seconds=2), 0.01)) == timedelta()


def test_a_slow_reply_is_used_only_if_there_is_no_better_one() -> None:
    assert offset_after((HOUR, 5.0)) == HOUR
    assert offset_after((HOUR, 5.0), (2 * HOUR, 0.01)) == 2 * HOUR
    assert offset_after((2 * HOUR, 0.01), (HOUR, 5.0)) == 2 * HOUR
    assert offset_after((timedelta(seconds=6), 5.0)) == timedelta()
