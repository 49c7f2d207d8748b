"""Resources for nodes of every type: tools, MCP servers, models, HTTP and a sandbox, all local."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.tools import StructuredTool
from pydantic_monty import AsyncMonty

from engine.catalog_file import McpServer, ModelEntry
from engine.chat_models.catalog import open_models
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.tools.catalog import open_tools
from engine.tools.entry_points import PythonTool
from tests.paths import PEERS
from tests.peers import chat as chat
from tests.peers import misbehaving_mcp as misbehaving_mcp
from tests.peers.http import Peer

SERVER = PEERS / "mcp_server.py"


@asynccontextmanager
async def open_resources(peer: Peer) -> AsyncIterator[dict[str, Any]]:
    """Open the resources. Models and MCP servers are those of the peer."""

    def go_away() -> str:
        raise RuntimeError("go away")

    rude = PythonTool(StructuredTool.from_function(go_away, name="rude", description="Raises."))
    servers = {
        "peer": McpServer(command=sys.executable, args=["-P", str(SERVER), "stdio"]),
        "faulty": McpServer(url=f"{peer.url}/mcp"),
        "away": McpServer(command="/no/such/program"),
    }
    models = [ModelEntry(name=name, base_url=f"{peer.url}/v1") for name in chat.MODELS]
    models.append(ModelEntry(name="unreachable", base_url="http://127.0.0.1:1/v1"))
    http, sandboxes = GuardedHttp(Allowed.parse("127.0.0.1")), AsyncMonty(min_processes=1, max_processes=1)
    async with open_tools(servers, [rude]) as tools, open_models(models) as catalog, sandboxes as sandbox:
        await tools.listed()
        yield {"tools": tools, "models": catalog, "http": http, "sandbox": sandbox, "sandbox_memory_mb": 32}
