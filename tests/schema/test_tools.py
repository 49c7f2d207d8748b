"""The catalog of tools as clients see it."""

import sys
from collections.abc import AsyncIterator

import pytest

from engine.catalog_file import McpServer
from engine.tools.catalog import open_tools
from resolvers.context import Context
from schema.schema import schema

TOOLS = "{ tools { name description parameters requiredScopes origin problem } }"


@pytest.fixture
async def with_tools(context: Context) -> AsyncIterator[Context]:
    servers = {"down": McpServer(command=sys.executable, args=["-c", "raise SystemExit"], required_scopes=["b", "a"])}
    async with open_tools(servers) as tools:
        context.resources = {"tools": tools}
        yield context


async def test_tools_are_listed_with_parameters_and_problems(with_tools: Context) -> None:
    answer = await schema.execute(TOOLS, context_value=with_tools)
    assert answer.errors is None and answer.data is not None
    tools = {tool["name"]: tool for tool in answer.data["tools"]}
    assert tools["hash_text"]["parameters"]["required"] == ["text"]
    assert (tools["hash_text"]["origin"], tools["hash_text"]["problem"]) == ("builtin", None)
    assert tools["mcp:down/*"]["requiredScopes"] == ["a", "b"]
    assert tools["mcp:down/*"]["problem"].startswith("the MCP server 'down' cannot be used")
