"""MCP servers that start normally and misbehave during a call.

Each row ends in a failure with the reason and with little memory, and the next call works.
"""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator

import pytest

from engine.catalog_file import McpServer
from engine.errors import NodeFailure
from engine.tools.catalog import Tools, open_tools
from tests.engine.node_runner import NodeHarness
from tests.paths import PEERS
from tests.peers import misbehaving_mcp as misbehaving_mcp
from tests.peers.http import Peer, http_peer
from tests.peers.http_protocol import MIB
from tests.peers.misbehaving_http import bomb

PEER = PEERS / "mcp_server.py"
LOST = "the MCP server 'peer' was lost during the call of "
UNPARSED = "its response cannot be parsed: "


async def failed(tools: Tools, tool: str) -> NodeFailure:
    async with asyncio.timeout(30):
        with pytest.raises(NodeFailure) as caught:
            await tools.call(f"mcp:peer/{tool}", {}, NodeHarness().context)
    return caught.value


@pytest.mark.parametrize(
    ("tool", "code", "message"),
    [
        ("hang", "TIMEOUT", "mcp:peer/hang did not finish within 1 s"),
        ("drip", "TIMEOUT", "mcp:peer/drip did not finish within 1 s"),
        ("short", "TOOL_FAILED", UNPARSED + "the response ended too early, or is not HTTP"),
        ("gib", "TOOL_FAILED", UNPARSED + "a message is longer than 16 MiB"),
        ("gib-announced", "TOOL_FAILED", UNPARSED + "a message is longer than 16 MiB"),
        ("gib-event", "TOOL_FAILED", UNPARSED + "a message is longer than 16 MiB"),
        ("bomb", "TOOL_FAILED", "the response is compressed, although the request did not accept that"),
        ("headers", "TOOL_FAILED", "the response has more than 200 headers"),
        ("broken-utf8", "TOOL_FAILED", UNPARSED + "it is not a message of the protocol (is no JSON"),
        ("not-json", "TOOL_FAILED", UNPARSED + "it is not a message of the protocol (is no JSON"),
        ("other-json", "TOOL_FAILED", UNPARSED + "it is not a message of the protocol (`"),
        ("short-event", "TOOL_FAILED", UNPARSED + "the response ended too early, or is not HTTP"),
        ("broken-event", "TOOL_FAILED", UNPARSED + "it is not a message of the protocol (is no JSON"),
        ("unheard-of", "TOOL_FAILED", UNPARSED + "its response has the content type 'text/plain'"),
        ("closed", "TOOL_FAILED", LOST + "'closed': the response ended too early, or is not HTTP"),
        ("garbage", "TOOL_FAILED", LOST + "'garbage': the response ended too early, or is not HTTP"),
        ("refuse", "TOOL_FAILED", LOST + "'refuse': it answered 500"),
    ],
)
async def test_a_misbehaving_server_over_http_is_a_clear_error(tool: str, code: str, message: str) -> None:
    bomb(1)  # built now, since it takes long
    async with http_peer() as peer, open_tools({"peer": McpServer(url=f"{peer.url}/mcp", timeout_s=1)}) as tools:
        await tools.listed()
        failure = await failed(tools, tool)
        assert (failure.code, failure.retryable) == (code, True)
        assert message in failure.message
        assert peer.written < 64 * MIB
        assert await tools.call("mcp:peer/add", {}, NodeHarness().context) == "3"


@pytest.fixture
async def piped() -> AsyncIterator[Tools]:
    config = McpServer(command=sys.executable, args=["-P", str(PEER), "stdio"], timeout_s=60)
    async with open_tools({"peer": config}) as tools:
        await tools.listed()
        yield tools


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("gib", LOST + "'gib': a message is longer than 16 MiB"),
        ("broken_utf8", LOST + "'broken_utf8': a received text is not UTF-8"),
        ("die", LOST + "'die': it ended"),
    ],
)
async def test_a_misbehaving_server_on_standard_streams_is_a_clear_error(piped: Tools, tool: str, message: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failure = await failed(piped, tool)
    assert (failure.code, failure.retryable) == ("TOOL_FAILED", True)
    assert message in failure.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024  # KiB
    assert await piped.call("mcp:peer/add", {"a": 1, "b": 2}, NodeHarness().context) == {"result": 3}


async def test_a_printed_line_that_is_no_message_is_ignored(piped: Tools) -> None:
    assert await piped.call("mcp:peer/prints", {}, NodeHarness().context) == {"result": "said"}


async def test_a_broken_response_ends_all_calls_of_its_session() -> None:
    """It is unknown which call it belongs to, and no call may wait for a response forever."""
    async with http_peer() as peer, open_tools({"peer": McpServer(url=f"{peer.url}/mcp", timeout_s=30)}) as tools:
        await tools.listed()
        waiting = asyncio.create_task(failed(tools, "hang"))
        await called(peer, 1)
        await failed(tools, "not-json")
        assert (await waiting).code == "TOOL_FAILED"


async def called(peer: Peer, calls: int) -> None:
    await peer.until(lambda: sum(b"tools/call" in request.body for request in peer.seen) >= calls)


KEY = "mcp-key-0123456789abcdef"


@pytest.mark.parametrize("tool", ["echo", "echo-structured", "echo-error", "echo-refusal"])
async def test_a_server_that_repeats_its_key_does_not_show_it(monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    monkeypatch.setenv("PEER_KEY", KEY)
    harness = NodeHarness()
    async with http_peer() as peer:
        config = McpServer(url=f"{peer.url}/mcp", headers={"Authorization": "Bearer ${PEER_KEY}"})
        async with open_tools({"peer": config}) as tools:
            listed = await tools.listed()
            try:
                result = str(await tools.call(f"mcp:peer/{tool}", {}, harness.context))
            except NodeFailure as failure:
                result = f"{failure.message} {failure.details}"
    assert "Bearer •••" in result
    assert KEY not in f"{result} {listed}"
    # A package with node types may keep the text and write it later.
    assert harness.context.redact(f"it was {KEY}") == "it was •••"
