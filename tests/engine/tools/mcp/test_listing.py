"""MCP servers that list their tools late or not at all: the failure of a call and of code."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_monty import AsyncMonty

from engine.catalog_file import McpServer
from engine.errors import NodeFailure
from engine.isolation import client
from engine.nodes.code import sandbox as sandbox_module
from engine.sdk.node import Output
from engine.tools import catalog
from engine.tools.catalog import Tools, open_tools
from engine.tools.mcp import listing as mcp_listing
from tests.engine.node_runner import NodeHarness
from tests.paths import PEERS

PEER = PEERS / "mcp_listing_server.py"
NOWHERE = McpServer(command="/no/such/program")


def peer(behaviour: str, **more: Any) -> McpServer:
    return McpServer(command=sys.executable, args=["-P", str(PEER), behaviour], **more)


@pytest.fixture
async def sandbox() -> AsyncIterator[AsyncMonty]:
    async with AsyncMonty(min_processes=1, max_processes=1) as pool:
        yield pool


async def run(sandbox: AsyncMonty, tools: Tools, *lines: str, **config: Any) -> Any:
    harness = NodeHarness({}, {"sandbox": sandbox, "sandbox_memory_mb": 64, "tools": tools})
    outcome = await harness.run("code", {"code": "\n    ".join(["def process():", *lines]), **config})
    assert isinstance(outcome, Output)
    return outcome.value


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("refuses", "the MCP server 'peer' cannot be used: it does not list its tools: it says: no list today"),
        ("nonsense", "the MCP server 'peer' cannot be used: it does not list its tools: it is not a message of the"),
        ("silent", "the MCP server 'peer' cannot be used: it does not list its tools: no answer"),
    ],
)
async def test_a_server_that_does_not_list_its_tools_again_is_reported(behaviour: str, message: str) -> None:
    # The limit is the start time of a server, which includes the start of Python.
    async with open_tools({"peer": peer(behaviour, start_timeout_s=3)}) as tools:
        assert await tools.call("mcp:peer/change", {}, NodeHarness().context) == "done"
        with pytest.raises(NodeFailure) as failed:
            await tools.call("mcp:peer/add", {}, NodeHarness().context)
        assert (failed.value.code, failed.value.retryable) == ("TOOL_FAILED", True)
        assert failed.value.message.startswith(message)
        infos = {info.name: info for info in await tools.listed()}
        assert (infos["mcp:peer/*"].problem or "").startswith(message)


async def test_a_server_that_dies_while_it_lists_its_tools_is_started_again() -> None:
    async with open_tools({"peer": peer("dies")}) as tools:
        assert await tools.call("mcp:peer/change", {}, NodeHarness().context) == "done"
        assert await tools.call("mcp:peer/add", {}, NodeHarness().context) == "done"


async def test_the_tools_of_a_server_are_checked_once() -> None:
    async with open_tools({"peer": peer("lists")}) as tools:
        first = await tools.find("mcp:peer/list_1")
        assert first.parameters["properties"].keys() == {"a", "b"}
        assert await tools.find("mcp:peer/list_1") is first
        await tools.call("mcp:peer/change", {}, NodeHarness().context)
        assert (await tools.find("mcp:peer/list_2")).problem is None
        with pytest.raises(NodeFailure, match="there is no tool 'mcp:peer/list_1'"):
            await tools.find("mcp:peer/list_1")


def running_checks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "check the tools of mcp:peer"]


async def test_a_check_that_takes_longer_than_the_list_waits_continues_and_is_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_tools({"peer": peer("heavy")}) as tools:
        await tools.call("mcp:peer/change", {}, NodeHarness().context)
        monkeypatch.setattr(catalog, "LISTING_S", 0.1)
        is_free = threading.Event()
        for _ in range(client.PROCESSES):
            client._threads.submit(is_free.wait)  # the isolation processes are busy with other work
        for _ in range(2):
            infos = {info.name: info for info in await tools.listed()}
            assert "still" in (infos["mcp:peer/*"].problem or "")
        [look] = running_checks()
        finding = asyncio.create_task(tools.find("mcp:peer/list_2"))
        is_free.set()
        assert (await finding).problem is None
        assert look.done() and running_checks() == []
        monkeypatch.setattr(catalog, "LISTING_S", 5.0)
        assert "mcp:peer/list_2" in {info.name for info in await tools.listed()}


async def test_closing_the_catalog_waits_only_for_the_schema_being_checked() -> None:
    async with open_tools({"peer": peer("heavy")}) as tools:
        await tools.call("mcp:peer/change", {}, NodeHarness().context)
        finding = asyncio.create_task(tools.find("mcp:peer/add"))
        async with asyncio.timeout(10):
            while not running_checks():  # noqa: ASYNC110 (the server lists its tools again)
                await asyncio.sleep(0)
    assert running_checks() == []
    await asyncio.wait([finding])


async def test_a_tool_that_could_not_be_checked_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_tools({"peer": peer("heavy")}) as tools:
        await tools.call("mcp:peer/change", {}, NodeHarness().context)
        monkeypatch.setattr(mcp_listing, "CHECK_S", 0.0)
        with pytest.raises(NodeFailure, match="parameters: the schema and those before it together exceed") as failed:
            await tools.find("mcp:peer/list_2")
        assert (failed.value.code, failed.value.retryable) == ("TOOL_FAILED", True)
        add = await tools.find("mcp:peer/add")
        monkeypatch.setattr(mcp_listing, "CHECK_S", 20.0)
        with pytest.raises(NodeFailure):  # not again at once
            await tools.find("mcp:peer/list_2")
        listing = tools._servers["peer"]._listing
        assert listing is not None
        listing._check_again_at = 0.0
        assert (await tools.find("mcp:peer/list_2")).problem is None
        assert await tools.find("mcp:peer/add") is add


async def test_code_that_calls_a_tool_of_a_server_that_is_down_gets_the_reason(sandbox: AsyncMonty) -> None:
    async with open_tools({"peer": NOWHERE}) as tools:
        with pytest.raises(NodeFailure) as failed:
            await run(sandbox, tools, "return mcp_peer_add(1, 2)")
        assert failed.value.code == "CODE"
        message = "line 2: RuntimeError: the tool 'mcp:peer/add' cannot be used: the MCP server 'peer' cannot be used: "
        assert failed.value.message.startswith(message)
        caught = ["try:", "    mcp_peer_add(1, 2)", "except RuntimeError as e:", "    return 'peer' in str(e)"]
        assert await run(sandbox, tools, *caught) is True


async def test_a_name_in_the_code_may_begin_like_a_server_that_is_down(sandbox: AsyncMonty) -> None:
    async with open_tools({"peer": NOWHERE}) as tools:
        assert await run(sandbox, tools, "mcp_peer_result = 7", "return mcp_peer_result") == 7


async def test_one_of_two_servers_with_a_common_prefix_may_be_down(sandbox: AsyncMonty) -> None:
    async with open_tools({"peer": NOWHERE, "peer_two": peer("lists")}) as tools:
        assert await run(sandbox, tools, "return mcp_peer_two_add(1, 2)") == "done"


async def test_the_start_of_a_server_does_not_count_as_time_of_the_code(
    sandbox: AsyncMonty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "GRACE_S", 0.4)
    async with asyncio.timeout(20), open_tools({"peer": peer("slow")}) as tools:
        assert await run(sandbox, tools, "return mcp_peer_add(1, 2)", timeoutS=0.5) == "done"
