"""A real server for the clients."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings
from tests.app_server import serving


@pytest.fixture
async def address(database_url: str, redis_url: str) -> AsyncIterator[str]:
    async with serving(Settings(database_url=database_url, redis_url=redis_url)) as address:
        yield address
