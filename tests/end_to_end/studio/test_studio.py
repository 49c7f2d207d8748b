"""The studio in a real browser, against a real server and worker."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.end_to_end.support.system import SystemUnderTest
from tests.programs import installed, path_of
from web.build import install, machine_node, wheel_node

FOLDER = Path(__file__).parent


def in_browser(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of Playwright, and return the JSON document that it prints."""
    node = machine_node() or wheel_node()
    install(FOLDER, node, "npm.log")
    command = [str(node.program), script, *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report: dict[str, Any] = orjson.loads(done.stdout)
    return report


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
