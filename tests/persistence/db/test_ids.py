"""Ids as bounds of a list: they sort as what they name was made."""

from datetime import UTC, datetime, timedelta

from persistence.db.ids import first_id, new_id


def test_the_first_id_of_a_moment_is_below_all_that_are_made_then_and_above_all_before() -> None:
    before, now = new_id("run"), datetime.now(UTC)
    assert first_id("run", now, -1) < before < first_id("run", now, 1)
    assert first_id("run", now + timedelta(milliseconds=1)) < first_id("run", now + timedelta(milliseconds=2))


def test_moments_that_no_id_was_made_at_are_bounds_as_well() -> None:
    never, always = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert first_id("run", never, -300) <= first_id("run", never) < new_id("run") < first_id("run", always, 300)
