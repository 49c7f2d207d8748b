"""Scenarios in a real browser, against a real server and worker: all in one browser, and executed once."""

import asyncio

import pytest

from tests.end_to_end.support.browser import Reports, in_browser
from tests.end_to_end.support.system import SystemUnderTest
from tests.programs import installed, path_of


@pytest.fixture(scope="session", params=installed("chromium"))
async def reports(request: pytest.FixtureRequest, system: SystemUnderTest) -> Reports:
    """The reports of all scenarios, by name."""
    address = f"http://127.0.0.1:{system.port}/"
    program = request.param
    return await asyncio.to_thread(in_browser, "scenarios.mjs", address, path_of(program) or program)
