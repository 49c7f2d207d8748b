"""The studio runs the place: triggers, secrets, statistics, and many runs at once."""

from tests.end_to_end.support.browser import Reports, without_faults


def test_a_trigger_is_tested_created_fired_and_changed_and_its_texts_are_no_markup(reports: Reports) -> None:
    report = without_faults(reports, "trigger")
    assert '"hour": "20' in report["tested"]
    assert (report["nextTimes"], report["savedName"], report["title"]) == (5, "Every hour", "Treadle")


def test_the_value_of_a_secret_is_in_no_page_and_in_no_response(reports: Reports) -> None:
    report = without_faults(reports, "secret")
    assert (report["isInPage"], report["isInResponses"]) == (False, False)


def test_all_runs_of_a_filter_are_cancelled_and_retried_and_the_view_is_an_address(reports: Reports) -> None:
    report = without_faults(reports, "bulk")
    assert report["question"] == "Cancel 13 runs?"
    assert report["address"] == "?tag=studio-bulk&status=CANCELLED"


def test_statistics_count_the_runs_of_a_workflow_and_a_reload_keeps_the_period(reports: Reports) -> None:
    report = without_faults(reports, "statistics")
    assert report["completed"] == "3"
    assert (report["address"], report["current"]) == ("?workflow=WF&period=30d", ["30 days"])
