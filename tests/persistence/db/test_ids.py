"""Ids as bounds of a list: they sort by creation time."""

from datetime import UTC, datetime, timedelta

from persistence.db.ids import first_id, new_id


def test_the_first_id_of_a_moment_separates_earlier_from_later_ids() -> None:
    before, now = new_id("run"), datetime.now(UTC)
    assert first_id("run", now, -1) < before < first_id("run", now, 1)
    assert first_id("run", now + timedelta(milliseconds=1)) < first_id("run", now + timedelta(milliseconds=2))


def test_moments_outside_the_range_of_ids_are_bounds_too() -> None:
    earliest, latest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert first_id("run", earliest, -300) <= first_id("run", earliest) < new_id("run") < first_id("run", latest, 300)
