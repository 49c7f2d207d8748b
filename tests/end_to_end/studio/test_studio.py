"""The first minute of a new user, and what is typed."""

from tests.end_to_end.support.browser import ScenarioPlayer, long
from tests.end_to_end.support.system import SystemUnderTest


async def test_a_template_is_chosen_run_and_watched_without_a_serious_fault_of_accessibility(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("firstMinute", system.port)
    assert "COMPLETED" in report["live"] and set(report["live"]) <= {"COMPLETED", "SKIPPED"}
    assert report["reloaded"] == report["live"]
    assert (len(report["live"]), report["path"]) == (report["nodes"], "/runs/RUN")


@long
async def test_what_is_typed_is_kept(browser: ScenarioPlayer, system: SystemUnderTest) -> None:
    report = await browser.play("keptDraft", system.port)
    assert (report["afterLeaving"], report["afterLeavingStored"]) == (["left at once", 0], [])
    assert {"left at once", "second"} <= set(report["afterReload"])
    assert report["afterLostResponse"] == ["response lost, typed on", 0]
    assert report["runWithoutSave"].startswith("The draft is not saved, so it cannot be run: ")
    assert report["afterServerAway"] == "server away"
    assert report["keptBesideOtherTab"]
    assert {"mine", "theirs"} <= set(report["merged"])


async def test_views_workflows_and_the_theme_are_chosen_from_the_command_palette(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("commands", system.port)
    assert (report["isBuilder"], report["theme"]) == (True, "dark")
