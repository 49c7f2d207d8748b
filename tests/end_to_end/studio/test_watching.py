"""The studio watches a run, goes back to its earlier states, and forks from there."""

from tests.end_to_end.support.browser import ScenarioPlayer
from tests.end_to_end.support.system import SystemUnderTest


async def test_a_run_is_stepped_answered_and_forked_from_an_earlier_state_with_an_edited_output(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("travel", system.port)
    assert (report["afterStep"], report["now"]) == ("IDLE", ["Now", "COMPLETED"])
    assert report["outputThere"] == {"text": "one <script>document.title='pwned'</script>"}
    assert report["reloaded"].endswith(", before ask")
    assert (report["evaluated"], report["forked"], report["title"]) == ("43", "two, true", "Treadle")
