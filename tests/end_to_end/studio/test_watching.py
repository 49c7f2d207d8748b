"""The studio watches a run, goes back to its earlier states, and forks from there."""

from tests.end_to_end.support.browser import Reports, without_faults


def test_a_run_is_stepped_answered_and_forked_from_an_earlier_state_with_an_edited_output(reports: Reports) -> None:
    report = without_faults(reports, "travel")
    assert (report["afterStep"], report["now"]) == ("IDLE", ["Now", "COMPLETED"])
    assert report["outputThere"] == {"text": "one <script>document.title='pwned'</script>"}
    assert report["reloaded"].endswith(", before ask")
    assert (report["evaluated"], report["forked"], report["title"]) == ("43", "two, true", "Treadle")
