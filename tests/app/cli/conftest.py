"""A fixture for tests that call a command in the process of its server."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture
def silent_server() -> Iterator[None]:
    """The server of the test writes no log to the output of the command in the same process."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)
