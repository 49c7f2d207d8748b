"""A person builds workflows in a real browser, against a real server and worker.

One script plays all scenarios in one browser. Each test checks the report of one of them.
"""

import asyncio
from typing import Any

import pytest

from tests.end_to_end.support.browser import in_browser
from tests.end_to_end.support.system import SystemUnderTest
from tests.programs import installed, path_of

Reports = dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=installed("chromium"))
async def reports(request: pytest.FixtureRequest, system: SystemUnderTest) -> Reports:
    address = f"http://127.0.0.1:{system.port}/"
    program: str = request.param
    return await asyncio.to_thread(in_browser, "building.mjs", address, path_of(program) or program)


def report_of(reports: Reports, name: str) -> dict[str, Any]:
    """Return the report of a scenario that reached its end, in a page without faults."""
    report = reports[name]
    assert "failure" not in report, report["failure"]
    assert report["faults"] == []
    return report


def test_a_workflow_is_built_from_nothing_by_mouse(reports: Reports) -> None:
    report = report_of(reports, "mouse")
    assert report["nodes"] == ["end", "start", "transform", "wait_event"]
    assert report["edges"] == ["start transform", "transform wait_event", "wait_event end"]
    assert report["errors"] == []


def test_a_workflow_is_built_and_run_by_keyboard_alone(reports: Reports) -> None:
    report = report_of(reports, "keyboard")
    assert report["edges"] == ["start end", "start transform", "transform end"]
    assert report["moved"] > 0 and report["errors"] == []


def test_a_conflict_is_solved_with_mine_theirs_or_both(reports: Reports) -> None:
    assert report_of(reports, "conflict")["taken"] == {
        "All mine": ["mine a", "mine b", "none"],
        "All theirs": ["none", "theirs b", "theirs c"],
        "Both": ["mine a", "mine b", "theirs c"],
    }


def test_nodes_are_pasted_into_another_tab_with_their_unknown_members(reports: Reports) -> None:
    report = report_of(reports, "paste")
    assert report["nodes"] == [["a_2", 1, {"kept": True}], ["b_2", "{{ a_2.output }}", None]]
    assert report["edges"] == ["a b a.output", "a_2 b_2 a_2.output"]
    assert report["refusal"].startswith("The clipboard has no JSON.")


def test_versions_are_compared_published_restored_and_archived(reports: Reports) -> None:
    report = report_of(reports, "versions")
    assert report["same"] == "No differences"
    assert "~ changed a" in report["beyond"] and "config.output" in report["beyond"]
    assert "version=" in report["link"] and report["reloaded"] == ["first", "second"]
    assert (report["draft"], report["published"]) == ("first", None)
    assert report["versions"] == [
        {"number": 2, "status": "ARCHIVED", "note": None},
        {"number": 1, "status": "ARCHIVED", "note": "the first one"},
    ]


def test_a_draft_of_1000_nodes_opens_and_is_arranged(reports: Reports) -> None:
    report = report_of(reports, "large")
    # The bound is for a busy machine. On an idle one it takes 1.6 s.
    assert report["openedMs"] < 6000
    assert (report["places"], report["undone"]) == (1000, 1000)


def test_texts_are_searched_and_replaced(reports: Reports) -> None:
    report = report_of(reports, "search")
    assert report["texts"] == ["Dear Grace", "{{ ada.output }} and Grace", "input.to == 'Grace'", "ada"]
    assert report["selected"] == "b"


def test_a_hostile_spec_is_imported_shown_as_text_and_exported_unchanged(reports: Reports) -> None:
    report = report_of(reports, "files")
    assert report["refusal"] == "The file is no spec: it has no list `nodes`."
    assert (report["title"], report["widths"]) == ("Treadle", [168])
    assert (report["same"], report["file"], report["errors"]) == (True, "Files.json", [])


def test_a_draft_that_is_deleted_while_it_is_open_can_still_be_downloaded(reports: Reports) -> None:
    report = report_of(reports, "deleted")
    assert (report["label"], report["file"]) == ("typed after that", "Deleted.json")
    assert "was found" in report["notice"]
