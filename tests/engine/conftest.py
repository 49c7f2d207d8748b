"""Fixtures of several tests of the engine: chat models and the built-in tools."""

from collections.abc import AsyncIterator

import pytest

from engine.tools.catalog import Tools, open_tools
from tests.engine.nodes.ai.llm_nodes import LlmHarness, open_llm_harness


@pytest.fixture
async def llm() -> AsyncIterator[LlmHarness]:
    async with open_llm_harness() as harness:
        yield harness


@pytest.fixture
async def tools() -> AsyncIterator[Tools]:
    async with open_tools({}) as opened:
        yield opened
