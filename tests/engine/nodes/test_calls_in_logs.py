"""The log of a run has its retries, requests and model calls with their durations."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.runtime.node_context import LOG_LIMIT
from engine.states import LogLevel, RunStatus
from tests.engine.memory_runs import run
from tests.engine.node_runner import NodeHarness
from tests.engine.nodes.node_resources import open_resources
from tests.peers.http import Peer, http_peer

ONCE_MORE = {"maxAttempts": 2, "backoffS": 0}
QUERY = {"query": {"key": "hidden"}}
FLAKY = {"type": "http", "config": {"url": "PEER/flaky?times=1&code=503", **QUERY, "retry": {"maxAttempts": 1}}}


@pytest.fixture(scope="module")
async def resources() -> AsyncIterator[dict[str, Any]]:
    async with http_peer() as peer, open_resources(peer) as opened:
        yield {**opened, "peer": peer}


@pytest.mark.parametrize(
    ("node", "lines"),
    [
        (
            {**FLAKY, "retry": ONCE_MORE},
            [
                (LogLevel.INFO, "GET PEER/flaky answered 503", {"status": 503, "bytes": 15}),
                (
                    LogLevel.WARNING,
                    "attempt 1 failed: GET PEER/flaky answered 503 Refused; attempt 2 begins in 0 s",
                    {"attempt": 1, "code": "HTTP_STATUS", "backoffS": 0},
                ),
                (LogLevel.INFO, "GET PEER/flaky answered 200", {"status": 200}),
            ],
        ),
        (
            {"type": "http", "config": {"url": "http://127.0.0.1:1/path?key=hidden", "retry": {"maxAttempts": 1}}},
            [
                (
                    LogLevel.WARNING,
                    "GET http://127.0.0.1:1/path: no connection: the connection was refused",
                    {"code": "HTTP_CONNECT"},
                )
            ],
        ),
        (
            {"type": "llm", "config": {"model": "thinks-then-fails-once", "prompt": "hi"}, "retry": ONCE_MORE},
            [
                (LogLevel.WARNING, "", {"model": "thinks-then-fails-once", "code": "MODEL_STREAM"}),
                (LogLevel.WARNING, "attempt 1 failed", {"attempt": 1, "code": "MODEL_STREAM", "backoffS": 0}),
                (LogLevel.INFO, "the model 'thinks-then-fails-once' answered", {"model": "thinks-then-fails-once"}),
            ],
        ),
        (
            {"type": "tool", "config": {"tool": "mcp:peer/add", "arguments": {"a": 1, "b": 2}}},
            [(LogLevel.INFO, "mcp:peer/add answered", {"tool": "mcp:peer/add"})],
        ),
        ({"type": "tool", "config": {"tool": "datetime_now"}}, []),
    ],
    ids=["http", "no connection", "llm", "tool", "quick tool"],
)
async def test_each_call_and_each_retry_has_a_line(
    resources: dict[str, Any], node: dict[str, Any], lines: list[tuple[LogLevel, str, dict[str, Any]]]
) -> None:
    peer: Peer = resources["peer"]
    url = node["config"].get("url")
    if url is not None:
        node = {**node, "config": {**node["config"], "url": url.replace("PEER", peer.url)}}
    ended = await run({"nodes": [{"id": "n", **node}]}, {}, resources)
    assert ended.status in (RunStatus.COMPLETED, RunStatus.FAILED)
    found = [line for line in ended.log_lines if line.level is not LogLevel.DEBUG]
    assert len(found) == len(lines), found
    for line, (level, start, fields) in zip(found, lines, strict=True):
        assert line.level is level and line.message.startswith(start.replace("PEER", peer.url))
        assert 0 <= line.fields["seconds"] < 30  # type: ignore[operator]
        assert {**line.fields, **fields} == line.fields
    assert "hidden" not in repr(ended.log_lines)


def test_the_lines_of_many_calls_leave_room_for_warnings() -> None:
    harness = NodeHarness()
    for _ in range(LOG_LIMIT + 200):
        harness.context.log(LogLevel.INFO, "answered")
    harness.context.log(LogLevel.WARNING, "careful")
    last, warning = harness.log_messages[-2:]
    assert (len(harness.log_messages), warning) == (LOG_LIMIT + 1, "careful") and "the rest is left out" in last
