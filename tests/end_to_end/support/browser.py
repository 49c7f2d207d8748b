"""Scripts of Playwright, which print their report as JSON, and what a report has to say."""

import subprocess
from pathlib import Path
from typing import Any

import orjson

from web.build import install, machine_node, wheel_node

FOLDER = Path(__file__).parents[1] / "studio"

Reports = dict[str, dict[str, Any]]


def in_browser(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of Playwright, and return the JSON document that it prints."""
    node = machine_node() or wheel_node()
    install(FOLDER, node, "npm.log")
    command = [str(node.program), script, *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report: dict[str, Any] = orjson.loads(done.stdout)
    return report


def without_faults(reports: Reports, name: str) -> dict[str, Any]:
    """Return the report of a scenario that has ended without an error of the page or a serious fault of accessibility."""
    report = reports[name]
    assert "failure" not in report, report["failure"]
    assert (report["errors"], report["faults"]) == ([], [])
    return report
