"""Call a tool of the catalog, and return its result or its failure."""

from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.tools.catalog import Tools
from tests.engine.node_runner import NodeHarness


async def call(tools: Tools, name: str, arguments: Any, **more: Any) -> Any:
    return await tools.call(name, arguments, NodeHarness().context, **more)


async def failure(tools: Tools, name: str, arguments: Any, **more: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as failed:
        await call(tools, name, arguments, **more)
    return failed.value
