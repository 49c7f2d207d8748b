"""A cancel, or the end of a time, that comes in the same moment as a piece of an answer is not lost: a hundred times each,
against peers that never stop talking. What such a moment needs cannot be arranged, so it is met by chance."""

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
from tests.peers import chat as chat  # which teaches the peer to speak
from tests.peers.http import http_peer

TIMES, TOGETHER = 100, 10
PEER = PEERS / "mcp_server.py"


def asks(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"model": "calls-for-ever", "messages": [{"role": "user", "content": json.dumps(calls)}], "maxSteps": 200}


NODES: dict[str, tuple[str, dict[str, Any]]] = {
    "a model that babbles": ("llm", {"model": "babbles", "prompt": "hi"}),
    "an agent whose model babbles": ("agent", {"model": "babbles", "prompt": "hi", "tools": ["hash_text"]}),
    "an agent whose tool babbles": (
        "agent",
        {**asks({"name": "mcp_peer_babble", "arguments": {}}), "tools": ["mcp:peer/babble"]},
    ),
    "an agent that goes on for ever": (
        "agent",
        {**asks(*[{"name": "hash_text", "arguments": {"text": "a"}}] * 3), "tools": ["hash_text"]},
    ),
    "an address that babbles": ("http", {"url": "PEER/babble"}),
    "a server of tools that babbles": ("tool", {"tool": "mcp:peer/babble"}),
}


@pytest.fixture(scope="module")
async def resources() -> AsyncIterator[dict[str, Any]]:
    server = McpServer(command=sys.executable, args=["-P", str(PEER), "stdio"])
    async with http_peer() as peer, open_tools({"peer": server}) as tools:
        entries = [{"name": name, "base_url": f"{peer.url}/v1"} for name in ("babbles", "calls-for-ever")]
        async with open_models([ModelEntry.model_validate(entry) for entry in entries]) as models:
            await tools.listed()
            yield {"tools": tools, "models": models, "http": GuardedHttp(Allowed.parse("127.0.0.1")), "peer": peer.url}


def started(what: str, resources: dict[str, Any], **more: Any) -> "asyncio.Task[Any]":
    kind, config = NODES[what]
    if kind == "http":
        config = {"url": config["url"].replace("PEER", resources["peer"])}
    return asyncio.create_task(NodeHarness({}, resources).run(kind, {**config, **more}))


@pytest.mark.parametrize("what", NODES)
async def test_a_cancel_is_never_lost(what: str, resources: dict[str, Any]) -> None:
    async def once() -> None:
        running = started(what, resources)
        await asyncio.sleep(random.uniform(0, 0.1))
        running.cancel()
        await asyncio.wait({running}, timeout=20)
        assert running.cancelled()

    for _ in range(TIMES // TOGETHER):
        await asyncio.gather(*(once() for _ in range(TOGETHER)))


@pytest.mark.parametrize("what", NODES)
async def test_the_end_of_the_time_is_never_lost(what: str, resources: dict[str, Any]) -> None:
    async def once() -> None:
        running = started(what, resources, timeoutS=random.uniform(0.02, 0.1))
        await asyncio.wait({running}, timeout=20)
        assert running.done()
        fault = running.exception()
        assert isinstance(fault, NodeFailure) and "TIMEOUT" in fault.code, fault

    for _ in range(TIMES // TOGETHER):
        await asyncio.gather(*(once() for _ in range(TOGETHER)))
