"""The studio in a real browser, against a real server and worker."""

import asyncio

import pytest

from tests.end_to_end.support.browser import in_browser
from tests.end_to_end.support.system import SystemUnderTest
from tests.programs import installed, path_of


@pytest.mark.parametrize("program", installed("chromium"))
async def test_a_template_is_chosen_run_and_watched_without_a_serious_fault_of_accessibility(
    system: SystemUnderTest, program: str
) -> None:
    address = f"http://127.0.0.1:{system.port}/"
    report = await asyncio.to_thread(in_browser, "first_minute.mjs", address, path_of(program) or program)
    assert "failure" not in report, report["failure"]
    assert (report["errors"], report["faults"]) == ([], [])
    assert "COMPLETED" in report["live"] and set(report["live"]) <= {"COMPLETED", "SKIPPED"}
    assert report["reloaded"] == report["live"]
    assert (len(report["live"]), report["path"]) == (report["nodes"], "/runs/RUN")


@pytest.mark.parametrize("program", installed("chromium"))
async def test_what_is_typed_is_kept(system: SystemUnderTest, program: str) -> None:
    address = f"http://127.0.0.1:{system.port}/"
    report = await asyncio.to_thread(in_browser, "kept_draft.mjs", address, path_of(program) or program)
    assert "failure" not in report, f"{report}\n{report['failure']}"
    assert (report["afterLeaving"], report["afterLeavingStored"]) == (["left at once", 0], [])
    assert {"left at once", "second"} <= set(report["afterReload"])
    assert report["afterLostResponse"] == ["response lost, typed on", 0]
    assert report["runWithoutSave"].startswith("The draft is not saved, so it cannot be run: ")
    assert report["afterServerAway"] == "server away"
    assert report["keptBesideOtherTab"]
    assert {"mine", "theirs"} <= set(report["merged"])
