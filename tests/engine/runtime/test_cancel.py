"""A cancel or a timeout that comes at the same moment as data is not lost.

The moment cannot be arranged, so each test tries 100 times, against peers that never stop sending.
"""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.catalog_file import McpServer, ModelEntry
from engine.chat_models.catalog import open_models
from engine.errors import NodeFailure
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.tools.catalog import open_tools
from tests.engine.node_runner import NodeHarness
from tests.paths import PEERS
from tests.peers import chat as chat  # registers the routes of the chat peer
from tests.peers.http import http_peer

ATTEMPTS, CONCURRENT = 100, 10
PEER = PEERS / "mcp_server.py"


def agent_config(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"model": "calls-for-ever", "messages": [{"role": "user", "content": json.dumps(calls)}], "maxSteps": 200}


NODES: dict[str, tuple[str, dict[str, Any]]] = {
    "a model that never stops": ("llm", {"model": "babbles", "prompt": "hi"}),
    "an agent whose model never stops": ("agent", {"model": "babbles", "prompt": "hi", "tools": ["hash_text"]}),
    "an agent whose tool never stops": (
        "agent",
        {**agent_config({"name": "mcp_peer_babble", "arguments": {}}), "tools": ["mcp:peer/babble"]},
    ),
    "an agent that calls tools for ever": (
        "agent",
        {**agent_config(*[{"name": "hash_text", "arguments": {"text": "a"}}] * 3), "tools": ["hash_text"]},
    ),
    "an HTTP body that never ends": ("http", {"url": "PEER/babble"}),
    "an MCP tool that never stops": ("tool", {"tool": "mcp:peer/babble"}),
}


@pytest.fixture(scope="module")
async def resources() -> AsyncIterator[dict[str, Any]]:
    server = McpServer(command=sys.executable, args=["-P", str(PEER), "stdio"])
    async with http_peer() as peer, open_tools({"peer": server}) as tools:
        entries = [{"name": name, "base_url": f"{peer.url}/v1"} for name in ("babbles", "calls-for-ever")]
        async with open_models([ModelEntry.model_validate(entry) for entry in entries]) as models:
            await tools.listed()
            yield {"tools": tools, "models": models, "http": GuardedHttp(Allowed.parse("127.0.0.1")), "peer": peer.url}


def start(case: str, resources: dict[str, Any], **more: Any) -> "asyncio.Task[Any]":
    node_type, config = NODES[case]
    if node_type == "http":
        config = {"url": config["url"].replace("PEER", resources["peer"])}
    return asyncio.create_task(NodeHarness({}, resources).run(node_type, {**config, **more}))


@pytest.mark.parametrize("case", NODES)
async def test_a_cancel_is_never_lost(case: str, resources: dict[str, Any]) -> None:
    async def once() -> None:
        running = start(case, resources)
        await asyncio.sleep(random.uniform(0, 0.1))
        while not running.cancel():  # The peer was lost before the cancel, so there was none to lose.
            assert isinstance(running.exception(), NodeFailure)
            running = start(case, resources)
            await asyncio.sleep(random.uniform(0, 0.1))
        await asyncio.wait({running}, timeout=20)
        assert running.cancelled()

    for _ in range(ATTEMPTS // CONCURRENT):
        await asyncio.gather(*(once() for _ in range(CONCURRENT)))


@pytest.mark.parametrize("case", NODES)
async def test_a_timeout_is_never_lost(case: str, resources: dict[str, Any]) -> None:
    async def once() -> None:
        running = start(case, resources, timeoutS=random.uniform(0.02, 0.1))
        await asyncio.wait({running}, timeout=20)
        assert running.done()
        error = running.exception()
        assert isinstance(error, NodeFailure) and "TIMEOUT" in error.code, error

    for _ in range(ATTEMPTS // CONCURRENT):
        await asyncio.gather(*(once() for _ in range(CONCURRENT)))
