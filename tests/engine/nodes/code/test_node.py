"""`code` nodes: results, limits, failures and cancels."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_monty import AsyncMonty

from engine.errors import NodeFailure
from engine.events import LogRecorded
from engine.sdk.node import Output
from engine.states import LogLevel
from engine.values.storable import check_storable
from tests.engine.node_runner import TYPES, NodeHarness


@pytest.fixture
async def sandbox() -> AsyncIterator[AsyncMonty]:
    async with AsyncMonty(min_processes=1, max_processes=2) as pool:
        yield pool


def resources(pool: AsyncMonty) -> dict[str, Any]:
    return {"sandbox": pool, "sandbox_memory_mb": 64}


async def run_code(pool: AsyncMonty, code: str, **config: Any) -> Any:
    outcome = await NodeHarness({"input": {"value": "}}' + x"}}, resources(pool)).run("code", {"code": code, **config})
    assert isinstance(outcome, Output)
    check_storable(outcome.value)  # as engine/runtime/attempts.py does
    return outcome.value


async def test_code_receives_values_and_returns_one(sandbox: AsyncMonty) -> None:
    code = "def process(input_data, rows=()):\n    return {'data': input_data, 'n': len(rows)}"
    mapping = {"input_data": "{{input.value}}", "rows": [1, {"a": "{{ input }}"}]}
    assert await run_code(sandbox, code, input_mapping=mapping) == {"data": "}}' + x", "n": 2}


async def test_printed_lines_go_to_the_log(sandbox: AsyncMonty) -> None:
    harness = NodeHarness({}, resources(sandbox))
    await harness.run("code", {"code": "def process():\n    print('one')\n    print('two\\nthree', end='')"})
    logs = [what for what in harness.events if isinstance(what, LogRecorded)]
    assert [log.message for log in logs] == ["one", "two", "three"]
    assert {(log.level, log.node_id) for log in logs} == {(LogLevel.INFO, "n")}


@pytest.mark.parametrize(
    ("code", "failure", "message"),
    [
        ("def process():\n\n    return 1 / 0", "CODE", "line 3: ZeroDivisionError"),
        ("def process():\n    raise TimeoutError('feed time limit')", "CODE", "line 2: TimeoutError"),
        ("def process():\n    import socket", "CODE", "line 2: ModuleNotFoundError"),
        ("def process():\n    return open('/etc/passwd').read()", "CODE", "PermissionError"),
        ("process = 1", "CODE", "the call of `process`: TypeError: 'int' object is not callable"),
        ("if 0:\n    def process(): pass", "CODE", "the call of `process`: NameError"),
        ("process = lambda x: x", "CODE", "missing 1 required positional argument: 'x'"),
        ("def process():\n    raise SystemExit", "CODE", "line 2: SystemExit"),
        ("def process():\n    raise", "CODE", "line 2: RuntimeError: No active exception to reraise"),
        ("def process():\n    raise ValueError(1)", "CODE", "line 2: an exception takes at most one string here"),
        (
            "def process():\n    if 0: raise KeyError(2)\n    raise ValueError('a', 'b')",
            "CODE",
            "line 2 or 3: an exception takes at most one",
        ),
        ("def deep(x):\r\n    return x[0]\r\ndef process():\r\n    return deep(1)", "CODE", "line 2: TypeError"),
        ("x = 'a\\\nb'\ndef process():\n    return [1 / 0 for _ in x]", "CODE", "line 4: ZeroDivisionError"),
        ("def process():\n    yield 1", "CODE", "line 2: NotImplementedError: the sandbox's Python does not"),
        ("def process():\n    while True: pass", "TIMEOUT", "0.5 s"),
        ("def process():\n    import time\n    time.sleep(60)", "TIMEOUT", "0.5 s"),
        ("def process():\n    return 'x' * (10 * 2**30)", "MEMORY_LIMIT", "its memory limit of 32 MiB"),
        ("def process():\n    x = [0]\n    while True: x = x + x", "MEMORY_LIMIT", "its memory limit of 32 MiB"),
        ("def process():\n    return ('x' * 9_000_000).split('x')", "MEMORY_LIMIT", "its memory limit of 32 MiB"),
        ("def process():\n    raise MemoryError('of mine')", "CODE", "line 2: MemoryError: of mine"),
        ("def process():\n    return float('nan')", "OUTPUT", "NaN"),
        ("def process():\n    return {'rows': [{1, 2}]}", "OUTPUT", ".rows[0] is a set"),
        ("def process():\n    return process", "OUTPUT", "the value is a function, which JSON does not have"),
        ("def process():\n    return {'a': [1, range(3)]}", "OUTPUT", "the value at .a[1] is a range, which"),
        ("def process():\n    return [{}.keys()]", "OUTPUT", "the value at [0] is a dict_keys"),
        ("import math\ndef process():\n    return math", "OUTPUT", "is a module"),
        ("class A:\n    pass\ndef process():\n    return [A]", "OUTPUT", "the value at [0] is a type"),
        ("def process():\n    return {(1, 2): 3}", "OUTPUT", "has a key that is a tuple and not a string"),
        ("def process():\n    x = {}\n    x['a'] = [x]\n    return x", "OUTPUT", "the value at .a[0] contains itself"),
        ("type = 1\ndef process():\n    return range(3)", "OUTPUT", "Object of type range is not JSON serializable"),
        ("def process():\n    return [b'x']", "OUTPUT", "bytes"),
        ("def process():\n    return (1, 2)", "OUTPUT", "tuple"),
        ("def process():\n    return {'a': 10 ** 40}", "OUTPUT", ".a is a whole number beyond 64 bits"),
        ("def process():\n    return 10 ** 5000", "OUTPUT", "64 bits"),
        ("def process():\n    return 'a\\x00'", "OUTPUT", "NUL"),
        ("def process():\n    return {1: 2}", "OUTPUT", "key 1"),
        ("def process():\n    return 'x' * 10_000_000", "OUTPUT", "larger than 8 MiB"),
        ("def process():\n    x = []\n    for _ in range(500): x = [x]\n    return x", "OUTPUT", "levels deep"),
    ],
)
async def test_failing_code_fails_its_node_with_the_reason(
    sandbox: AsyncMonty, code: str, failure: str, message: str
) -> None:
    with pytest.raises(NodeFailure) as failed:
        await run_code(sandbox, code, timeoutS=0.5 if failure == "TIMEOUT" else 60, memoryMB=32)
    assert (failed.value.code, message in failed.value.message) == (failure, True), failed.value.message
    assert await run_code(sandbox, "def process():\n    return 'still there'") == "still there"


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        ("def process(:", "invalid syntax", 1),
        ("def process():\n  x\n y", "unindent", 3),
        ("return 1\ndef process(): pass", "`return` outside of a function", 1),
        ("x = 1", "must define a function `process`", None),
        ("async def process(): pass", "must not be an async function", 1),
        ("\n\ndef process(a, b): pass", "needs `b`", 3),
        ("def process(): pass", "no parameter `a`", 1),
        ("def process(a, /): pass", "remove the `/`", 1),
        ("def process(a): return " + "(" * 3000 + ")" * 3000, "too many nested parentheses", 1),
        ("def process(a): return " + "-" * 100_000 + "1", "nested too deeply", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_invalid_code_is_found_before_the_run(code: str, message: str, line: int | None) -> None:
    with pytest.raises(ValidationError) as refused:
        TYPES["code"].Config.model_validate({"code": code, "input_mapping": {"a": 1}})
    [error] = refused.value.errors()
    assert message in error["msg"] and error["ctx"]["line"] == line


async def test_a_small_value_that_is_large_as_json_is_stopped_inside_the_sandbox(sandbox: AsyncMonty) -> None:
    code = "def process():\n    x = [0]\n    for _ in range(60): x = [x, x]\n    return x"
    with pytest.raises(NodeFailure) as failed:
        await run_code(sandbox, code, timeoutS=20, memoryMB=16)
    assert failed.value.code == "MEMORY_LIMIT"


def process_end(pid: int) -> "asyncio.Future[None]":
    """Return a future that is done when the process has ended.

    A pidfd becomes readable then (pidfd_open(2)).
    """
    loop, descriptor = asyncio.get_running_loop(), os.pidfd_open(pid)
    end: asyncio.Future[None] = loop.create_future()

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        end.set_result(None)

    loop.add_reader(descriptor, ended)
    return end


async def stopped_after(pool: AsyncMonty, others: set[int]) -> float:
    """Return the seconds from the cancel of two endless loops to the end of both processes."""
    loops = "def process():\n    print('on')\n    while True: print(end='')"
    harnesses = [NodeHarness({}, resources(pool)) for _ in range(2)]
    tasks = [asyncio.create_task(one.run("code", {"code": loops})) for one in harnesses]
    for one in harnesses:
        await one.posted.wait()
    busy = children() - others
    assert len(busy) == 2
    ends = [process_end(pid) for pid in busy]
    started = asyncio.get_running_loop().time()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)
    async with asyncio.timeout(5):
        await asyncio.gather(*ends)
    return asyncio.get_running_loop().time() - started


async def test_cancelled_code_stops_at_once_and_frees_its_sandbox() -> None:
    others = children()
    async with AsyncMonty(min_processes=2, max_processes=2) as pool:
        # Several times, since the machine may be busy at one of them.
        assert median([await stopped_after(pool, others) for _ in range(5)]) < 0.08
        assert await run_code(pool, "def process():\n    return 1") == 1


async def test_waiting_for_a_sandbox_is_reported_and_does_not_count_as_time(sandbox: AsyncMonty) -> None:
    loops = {"code": "def process():\n    print('on')\n    while True: print(end='')", "timeoutS": 0.6}
    harnesses = [NodeHarness({}, resources(sandbox)) for _ in range(2)]
    busy = [asyncio.create_task(one.run("code", loops)) for one in harnesses]
    for one in harnesses:
        await one.posted.wait()
    waiting = NodeHarness({}, resources(sandbox))
    answer = await waiting.run("code", {"code": "def process():\n    return 7", "timeoutS": 0.2})
    assert answer == Output(7)
    assert waiting.messages == ["waiting for a sandbox", None]
    ended = await asyncio.gather(*busy, return_exceptions=True)
    assert {getattr(one, "code", None) for one in ended} == {"TIMEOUT"}


def children() -> set[int]:
    """Return the ids of the running sandbox processes."""
    pids = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            pids.add(int(status.parent.name))
    return pids
