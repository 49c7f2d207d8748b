"""Which scenarios of the studio the suite plays."""

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests to `make studio-tests`."""
    if "TREADLE_STUDIO_TESTS" in os.environ:
        return
    long = [item for item in items if item.get_closest_marker("studio_long")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)
