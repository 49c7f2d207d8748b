"""Calls of catalog tools by `code` nodes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_monty import AsyncMonty

from engine.errors import NodeFailure
from engine.events import LogRecorded
from engine.sdk.node import NodeContext, Output
from engine.sdk.tool import ToolInfo
from engine.states import LogLevel
from engine.tools.builtin import builtin_tools
from engine.tools.catalog import Tools
from engine.types import JSON
from tests.engine.node_runner import NodeHarness


class Slow:
    """A tool that waits until it is cancelled."""

    info = ToolInfo("a/slow", "", {"type": "object"}, "python", frozenset())

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        self.began.set()
        try:
            return await asyncio.Event().wait()
        finally:
            self.ended.set()


class Guarded:
    info = ToolInfo("guarded", "", {"type": "object"}, "python", frozenset(["vault"]))

    async def call(self, arguments: dict[str, JSON], ctx: NodeContext) -> JSON:
        return "in"


@pytest.fixture
async def sandbox() -> AsyncIterator[AsyncMonty]:
    async with AsyncMonty(min_processes=1, max_processes=2) as pool:
        yield pool


def harness(sandbox: AsyncMonty, *more: Any) -> NodeHarness:
    return NodeHarness(
        {}, {"sandbox": sandbox, "sandbox_memory_mb": 64, "tools": Tools([*builtin_tools(), Guarded(), *more])}
    )


async def run(sandbox: AsyncMonty, code: str, **config: Any) -> Any:
    outcome = await harness(sandbox).run("code", {"code": code, **config})
    assert isinstance(outcome, Output)
    return outcome.value


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("return json_query(data={'a': [1, 2]}, expression='a[1]')", 2),
        ("return math_evaluate('2 * x', {'x': 4})", 8.0),
        ("return [math_evaluate(str(n)) for n in range(3)]", [0, 1, 2]),
        ("f = base64_encode\n    return f('a') + f(text='b')", "YQ==Yg=="),
        ("base64_encode = str\n    return base64_encode(7)", "7"),
        (
            "try:\n        math_evaluate('1 / 0')\n    except RuntimeError as e:\n        return str(e)[:14]",
            "math_evaluate:",
        ),
        ("try:\n        hash_text(txt='a')\n    except ValueError as e:\n        return 'caught'", "caught"),
        (
            "try:\n        guarded()\n    except PermissionError as e:\n        return str(e)[:23]",
            "guarded needs the scopes"[:23],
        ),
    ],
)
async def test_code_calls_tools_by_name(sandbox: AsyncMonty, body: str, result: Any) -> None:
    assert await run(sandbox, f"def process():\n    {body}") == result


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return math_evaluate('1 / 0')", "line 2: RuntimeError: math_evaluate: '1 / 0' cannot be calculated"),
        ("return hash_text(7)", "line 2: ValueError: the arguments do not match hash_text: arguments.text"),
        ("return hash_text('a', 'b', 'c', 'd', 'e')", "hash_text takes 4 arguments, not 5"),
        ("return hash_text('a', text='b')", "hash_text got 'text' twice"),
        ("return json_query({1, 2}, '@')", "json_query takes only JSON: the value at .data is a set"),
        ("return guarded()", "PermissionError: guarded needs the scopes vault"),
        ("return no_such_tool()", "NameError: name 'no_such_tool' is not defined"),
        ("json_query\n    return 1 / 0", "line 3: ZeroDivisionError"),
    ],
)
async def test_a_tool_that_fails_in_code_is_an_error_with_the_line(
    sandbox: AsyncMonty, body: str, message: str
) -> None:
    with pytest.raises(NodeFailure) as failed:
        await run(sandbox, f"def process():\n    {body}")
    assert (failed.value.code, message in failed.value.message) == ("CODE", True), failed.value.message


async def test_the_returned_value_is_checked_with_tools_as_without(sandbox: AsyncMonty) -> None:
    with pytest.raises(NodeFailure) as failed:
        await run(sandbox, "def process():\n    base64_encode('a')\n    return {'a': {1}}")
    assert (failed.value.code, "at .a is a set" in failed.value.message) == ("OUTPUT", True), failed.value.message


async def test_printed_lines_and_tool_calls_are_logged_in_order(sandbox: AsyncMonty) -> None:
    node = harness(sandbox)
    await node.run("code", {"code": "def process():\n    print('before')\n    base64_encode('a')\n    print('after')"})
    logs = [event for event in node.events if isinstance(event, LogRecorded)]
    assert {log.message for log in logs} == {"before", "called base64_encode", "after"}
    assert [log.level for log in logs if log.fields.get("tool")] == [LogLevel.DEBUG]


async def test_the_time_limit_includes_the_tools(sandbox: AsyncMonty) -> None:
    slow = Slow()
    with pytest.raises(NodeFailure) as failed:
        await harness(sandbox, slow).run("code", {"code": "def process():\n    a_slow()", "timeoutS": 0.1})
    assert failed.value.code == "TIMEOUT"
    assert slow.ended.is_set()


async def test_a_cancel_stops_the_tool_and_the_code(sandbox: AsyncMonty) -> None:
    slow = Slow()
    running = asyncio.create_task(harness(sandbox, slow).run("code", {"code": "def process():\n    a_slow()"}))
    async with asyncio.timeout(10):
        await slow.began.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled() and slow.ended.is_set()
    assert await run(sandbox, "def process():\n    return base64_encode('a')") == "YQ=="
