"""Calls of a tool from the catalog: what it gives, and how it fails."""

from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.tools.catalog import Tools
from tests.engine.node_runner import Given


async def call(tools: Tools, name: str, arguments: Any, **more: Any) -> Any:
    return await tools.call(name, arguments, Given().context, **more)


async def failure(tools: Tools, name: str, arguments: Any, **more: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as failed:
        await call(tools, name, arguments, **more)
    return failed.value
