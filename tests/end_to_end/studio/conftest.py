"""One browser for the scenarios of the studio, against a real server and worker."""

import os
from collections.abc import AsyncIterator

import pytest

from tests.end_to_end.support.browser import ScenarioPlayer, open_browser
from tests.programs import installed, path_of


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to `make studio-tests`."""
    if "TREADLE_STUDIO_TESTS" in os.environ:
        return
    long = [item for item in items if item.get_closest_marker("studio_long")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


@pytest.fixture(scope="session", params=installed("chromium"))
async def browser(request: pytest.FixtureRequest) -> AsyncIterator[ScenarioPlayer]:
    async with open_browser(path_of(request.param) or request.param) as browser:
        yield browser
