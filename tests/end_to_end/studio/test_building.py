"""A person builds workflows in a real browser, against a real server and worker."""

import pytest

from tests.end_to_end.support.browser import ScenarioPlayer, long
from tests.end_to_end.support.system import SystemUnderTest


async def test_a_workflow_is_built_from_nothing_by_mouse(browser: ScenarioPlayer, system: SystemUnderTest) -> None:
    report = await browser.play("mouse", system.port)
    assert report["nodes"] == ["end", "start", "transform", "wait_event"]
    assert report["edges"] == ["start transform", "transform wait_event", "wait_event end"]


async def test_a_workflow_is_built_and_run_by_keyboard_alone(browser: ScenarioPlayer, system: SystemUnderTest) -> None:
    report = await browser.play("keyboard", system.port)
    assert report["edges"] == ["start end", "start transform", "transform end"]
    assert report["moved"] > 0


@long
@pytest.mark.parametrize(
    ("scenario", "labels"),
    [
        ("conflictMine", ["mine a", "mine b", "none"]),
        ("conflictTheirs", ["none", "theirs b", "theirs c"]),
        ("conflictBoth", ["mine a", "mine b", "theirs c"]),
    ],
)
async def test_a_conflict_is_solved(
    browser: ScenarioPlayer, system: SystemUnderTest, scenario: str, labels: list[str]
) -> None:
    assert (await browser.play(scenario, system.port))["taken"] == labels


@long
async def test_nodes_are_pasted_into_another_tab_with_their_unknown_members(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("paste", system.port)
    assert report["nodes"] == [["a_2", 1, {"kept": True}], ["b_2", "{{ a_2.output }}", None]]
    assert report["edges"] == ["a b a.output", "a_2 b_2 a_2.output"]
    assert report["refusal"].startswith("The clipboard has no JSON.")


@long
async def test_versions_are_compared_published_restored_and_archived(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("versions", system.port)
    assert report["same"] == "No differences"
    assert "~ changed a" in report["beyond"] and "config.output" in report["beyond"]
    assert report["link"] == "?tab=versions&node=a&version=2"
    assert report["reloaded"] == ["first", "second"]
    assert (report["draft"], report["published"]) == ("first", None)
    assert report["versions"] == [
        {"number": 2, "status": "ARCHIVED", "note": None},
        {"number": 1, "status": "ARCHIVED", "note": "the first one"},
    ]


@long
async def test_a_draft_of_1000_nodes_opens_and_is_arranged(browser: ScenarioPlayer, system: SystemUnderTest) -> None:
    report = await browser.play("large", system.port)
    # The bound is for a busy machine. On an idle one it takes 1.6 s.
    assert report["openedMs"] < 10_000
    assert (report["places"], report["undone"]) == (1000, 1000)


@long
async def test_texts_are_searched_and_replaced(browser: ScenarioPlayer, system: SystemUnderTest) -> None:
    report = await browser.play("search", system.port)
    assert report["texts"] == ["Dear Grace", "{{ ada.output }} and Grace", "input.to == 'Grace'", "ada"]
    assert report["selected"] == "b"


@long
async def test_a_hostile_spec_is_imported_shown_as_text_and_exported_unchanged(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("files", system.port)
    assert report["refusal"] == "The file is no spec: it has no list `nodes`."
    assert (report["title"], report["widths"]) == ("Treadle", [168])
    assert (report["same"], report["file"]) == (True, "Files.json")


@long
async def test_a_draft_that_is_deleted_while_it_is_open_can_still_be_downloaded(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("deleted", system.port)
    assert (report["label"], report["file"]) == ("typed after that", "Deleted.json")
    assert "was found" in report["notice"]
