"""What nodes are given by several of the tests here: models that answer, and the tools that are built in."""

from collections.abc import AsyncIterator

import pytest

from engine.tools.catalog import Tools, open_tools
from tests.engine.llm_nodes import Asked, asking


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    async with asking() as asked:
        yield asked


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    async with open_tools({}) as opened:
        yield opened
