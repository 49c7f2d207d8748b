"""The studio runs the place: triggers, secrets, statistics, and many runs at once."""

from tests.end_to_end.support.browser import ScenarioPlayer, long
from tests.end_to_end.support.system import SystemUnderTest


@long
async def test_a_trigger_is_tested_created_fired_and_changed_and_its_texts_are_no_markup(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("trigger", system.port)
    assert '"hour": "20' in report["tested"]
    assert (report["nextTimes"], report["savedName"], report["title"]) == (5, "Every hour", "Treadle")


async def test_the_value_of_a_secret_is_in_no_page_and_in_no_response(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("secret", system.port)
    assert (report["isInPage"], report["isInResponses"]) == (False, False)


@long
async def test_all_runs_of_a_filter_are_cancelled_and_retried_and_the_view_is_an_address(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("bulk", system.port)
    assert report["question"] == "Cancel 13 runs?"
    assert report["address"] == "?tag=TAG&status=CANCELLED"


@long
async def test_statistics_count_the_runs_of_a_workflow_and_a_reload_keeps_the_period(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("statistics", system.port)
    assert report["completed"] == "3"
    assert (report["address"], report["current"]) == ("?workflow=WF&period=30d", ["30 days"])
