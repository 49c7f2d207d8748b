"""Real MCP servers in their own processes, on standard streams and over HTTP, that also die."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.catalog_file import McpServer
from engine.errors import NodeFailure, NotStorable
from engine.tools.catalog import Tools, open_tools
from engine.tools.mcp import server as mcp
from engine.tools.mcp import session
from tests.engine.node_runner import NodeHarness
from tests.peers.mcp_processes import PEER, HttpServerProcess, ServerLog, stdio


@pytest.fixture
async def log() -> AsyncIterator[ServerLog]:
    transport, log = await asyncio.get_running_loop().create_datagram_endpoint(ServerLog, ("127.0.0.1", 0))
    log.port = transport.get_extra_info("sockname")[1]
    yield log
    transport.close()


@pytest.fixture
async def over_http(log: ServerLog) -> AsyncIterator[HttpServerProcess]:
    server = HttpServerProcess(log)
    await server.start()
    yield server
    server.kill()


@asynccontextmanager
async def opened(config: McpServer, name: str = "peer") -> AsyncIterator[Tools]:
    async with open_tools({name: config}) as tools:
        yield tools


@pytest.fixture(params=["stdio", "http"])
async def tools(request: pytest.FixtureRequest, log: ServerLog) -> AsyncIterator[Tools]:
    http = HttpServerProcess(log)
    if request.param == "http":
        await http.start()
    config = McpServer(url=f"http://127.0.0.1:{http.port}/mcp") if http.process else stdio(log)
    async with opened(config) as tools:
        yield tools
    http.kill()


async def call(tools: Tools, tool: str, _harness: NodeHarness | None = None, **arguments: Any) -> Any:
    async with asyncio.timeout(30):
        return await tools.call(f"mcp:peer/{tool}", arguments, (_harness or NodeHarness()).context)


async def failure(tools: Tools, tool: str, **arguments: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as failed:
        await call(tools, tool, **arguments)
    return failed.value


async def test_the_tools_of_a_server_are_listed_and_called(tools: Tools) -> None:
    infos = {info.name: info for info in await tools.listed()}
    add = infos["mcp:peer/add"]
    assert (add.description, add.origin, add.problem) == ("Adds two numbers.", "mcp:peer", None)
    assert add.parameters["required"] == ["a", "b"]
    assert "json_query" in infos
    assert await call(tools, "add", a=1, b=2) == {"result": 3}
    assert await call(tools, "weather", city="Oslo") == {"city": "Oslo", "sky": "clear"}
    assert await call(tools, "greet", name="Ann") == "hello Ann"
    assert [block["text"] for block in await call(tools, "two_texts")] == ["a", "b"]
    assert await call(tools, "key") == {"result": "run_1/0/n/1"}


async def test_a_failing_tool_reports_the_reason(tools: Tools) -> None:
    failed = await failure(tools, "fail")
    assert (failed.code, "no luck today" in failed.message) == ("TOOL_FAILED", True)
    assert (await failure(tools, "add", a="x", b=1)).code == "TOOL_ARGUMENTS"
    unknown = await failure(tools, "ad", a=1, b=1)
    assert (unknown.code, "did you mean 'mcp:peer/add'" in unknown.message) == ("TOOL_UNKNOWN", True)


async def test_a_whole_number_beyond_64_bits_is_refused_both_ways(tools: Tools) -> None:
    with pytest.raises(NotStorable, match=r"the value at \.result is a whole number beyond 64 bits"):
        await call(tools, "huge")
    failed = await failure(tools, "add", a=2**64 + 1, b=1)
    assert (failed.code, "at .a is a whole number beyond 64 bits" in failed.message) == ("TOOL_ARGUMENTS", True)


async def test_a_server_that_dies_during_a_call_fails_the_waiting_calls(tools: Tools, log: ServerLog) -> None:
    waiting = asyncio.create_task(failure(tools, "hang"))
    await log.until("hanging")
    failed = await failure(tools, "die")
    assert (failed.code, failed.retryable) == ("TOOL_FAILED", True)
    assert "'peer' was lost during the call of 'die'" in failed.message
    assert (await waiting).retryable
    assert log.count("dying") == 1


async def test_a_restarted_server_is_connected_again(
    over_http: HttpServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "IDLE_S", 0.0)
    async with opened(McpServer(url=f"http://127.0.0.1:{over_http.port}/mcp")) as tools:
        assert await call(tools, "add", a=1, b=2) == {"result": 3}
        over_http.kill()
        await over_http.start()
        assert await call(tools, "add", a=2, b=2) == {"result": 4}
        over_http.kill()
        failed = await failure(tools, "add", a=1, b=1)
        assert (failed.code, failed.retryable, "cannot be used" in failed.message) == ("TOOL_FAILED", True, True)


async def test_a_server_that_ended_between_two_calls_is_started_again(log: ServerLog) -> None:
    async with opened(stdio(log)) as tools:
        assert await call(tools, "add", a=1, b=2) == {"result": 3}
        await log.until("started")
        os.kill(log.pid, 9)
        async with asyncio.timeout(20):
            while True:
                # A call at the moment of its death may fail; no call waits for it.
                try:
                    assert await call(tools, "add", a=2, b=2) == {"result": 4}
                    break
                except NodeFailure as lost:
                    assert lost.retryable
        assert log.count("started") == 2


async def test_a_cancel_is_sent_to_the_server_and_the_session_continues(tools: Tools, log: ServerLog) -> None:
    calling = asyncio.create_task(call(tools, "hang"))
    await log.until("hanging")
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    assert calling.cancelled()
    await log.until("called off")
    assert await call(tools, "add", a=1, b=2) == {"result": 3}
    assert log.count("started") == 1


async def test_a_call_has_a_time_limit(log: ServerLog) -> None:
    async with opened(stdio(log, timeout_s=0.5)) as tools:
        await tools.listed()
        failed = await failure(tools, "hang")
        assert (failed.code, failed.retryable, "within 0.5 s" in failed.message) == ("TIMEOUT", True, True)
        await log.until("called off")


async def test_concurrent_calls_share_one_session(tools: Tools, log: ServerLog) -> None:
    sums = await asyncio.gather(*(call(tools, "add", a=n, b=n) for n in range(20)))
    assert sums == [{"result": n * 2} for n in range(20)]
    assert log.count("started") == 1


async def test_the_progress_of_a_tool_is_reported(tools: Tools) -> None:
    harness = NodeHarness()
    assert await call(tools, "steps", harness) == {"result": "done"}
    assert "half way" in harness.messages


async def test_a_server_that_adds_a_tool_is_listed_again(log: ServerLog) -> None:
    async with opened(stdio(log)) as tools:
        assert "mcp:peer/learned" not in [info.name for info in await tools.listed()]
        await call(tools, "learn")
        assert (await call(tools, "learned", city="Oslo"))["sky"] == "clear"


async def test_only_the_selected_tools_are_listed(log: ServerLog) -> None:
    async with opened(stdio(log, tools=["add", "nope"], required_scopes=["sums"])) as tools:
        infos = {info.name: info for info in await tools.listed() if info.origin == "mcp:peer"}
        assert set(infos) == {"mcp:peer/add", "mcp:peer/nope"}
        assert infos["mcp:peer/nope"].problem == "the server has no such tool"
        assert infos["mcp:peer/add"].required_scopes == {"sums"}
        forbidden = await failure(tools, "add", a=1, b=1)
        assert (forbidden.code, "sums" in forbidden.message) == ("TOOL_FORBIDDEN", True)
        assert (await failure(tools, "nope")).message.endswith("the server has no such tool")
        for scope in ("sums", "admin"):
            harness = NodeHarness()
            harness.context.scopes = frozenset([scope])
            assert await call(tools, "add", harness, a=1, b=1) == {"result": 2}


async def test_a_server_sees_only_the_configured_environment(log: ServerLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_KEY", "s3cret")
    monkeypatch.setenv("NOT_GIVEN", "s3cret")
    async with opened(stdio(log, env={"GIVEN": "${PEER_KEY}"})) as tools:
        assert await call(tools, "secret") == {"result": "s3cret"}
        assert await call(tools, "inherited") == {"result": "not given"}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (McpServer(command="/no/such/program"), "cannot be used"),
        (McpServer(command=sys.executable, args=["-c", "raise SystemExit(3)"]), "cannot be used"),
        (
            McpServer(command=sys.executable, args=["-P", str(PEER), "silent"], start_timeout_s=0.5),
            "not ready within 0.5 s",
        ),
        (McpServer(command=sys.executable, args=["-P", str(PEER), "garbage"], start_timeout_s=2), "cannot be used"),
        (McpServer(url="http://127.0.0.1:1/mcp"), "cannot be used"),
        (
            McpServer(url="http://127.0.0.1:1/${NO_SUCH_VARIABLE}"),
            "the environment variable NO_SUCH_VARIABLE is not set",
        ),
    ],
)
async def test_a_server_that_cannot_be_used_is_listed_with_the_reason(config: McpServer, problem: str) -> None:
    async with opened(config) as tools:
        infos = {info.name: info for info in await tools.listed()}
        assert problem in (infos["mcp:peer/*"].problem or "")
        assert infos["hash_text"].problem is None
        failed = await failure(tools, "add", a=1, b=1)
        assert (failed.code, failed.retryable, problem in failed.message) == ("TOOL_FAILED", True, True)


async def test_messages_about_a_server_contain_no_key(
    over_http: HttpServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEER_KEY", "s3cret")
    url = f"http://127.0.0.1:{over_http.port}/nowhere?key=${{PEER_KEY}}"
    async with opened(McpServer(url=url)) as tools:
        message = (await failure(tools, "add", a=1, b=1)).message
    assert "cannot be used" in message and "s3cret" not in message


async def test_an_unreachable_server_is_not_tried_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "not-yet"
    async with opened(McpServer(command=str(program))) as tools:
        await failure(tools, "add", a=1, b=1)
        program.write_text(f"#!/bin/sh\nexec {sys.executable} -P {PEER} stdio\n")
        program.chmod(0o755)
        await failure(tools, "add", a=1, b=1)
        monkeypatch.setattr(mcp, "RETRY_S", 0.0)
        assert await call(tools, "add", a=1, b=2) == {"result": 3}


async def test_no_process_outlives_the_catalog(log: ServerLog) -> None:
    async with opened(stdio(log)) as tools:
        waiting = asyncio.create_task(failure(tools, "hang"))
        await log.until("hanging")
    assert (await waiting).retryable
    pid = log.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("mcp ")]
