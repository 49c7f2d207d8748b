"""Attacks of the peers of a workflow: an HTTP server, a model endpoint and an MCP server that lie.

Each attack runs in a run (the worker) and in node tests (the server) at the same time.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.hostile.deployment import AttackedDeployment
from tests.hostile.report import AttackResult, codes
from tests.peers import chat
from tests.peers import misbehaving_mcp as misbehaving_mcp  # registers the path /mcp

RUN = """
mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) {
  run { status nodeStates { error { code } } } errors { code } } }
"""
TEST_NODE = """
mutation ($input: TestNodeInput!) { testNode(input: $input) { error { code } errors { code } } }
"""
PATHS = (
    "/bomb?layers=1",
    "/bomb?layers=3",
    "/members?count=100000",
    "/gib",
    "/endless-headers",
    "/drip",
    "/garbage",
    "/loop",
)
MODELS = (
    "bomb",
    "gib",
    "gib-of-error",
    "gib-of-answer",
    "babbles",
    "drips",
    "hangs",
    "breaks-off",
    "no-http",
    "no-json",
    "another-json",
    "broken-utf8",
    "lies-about-length",
)
TOOLS = (
    "bomb",
    "gib",
    "gib-announced",
    "gib-event",
    "drip",
    "hang",
    "short",
    "broken-utf8",
    "garbage",
    "other-json",
)
assert set(MODELS) <= set(chat.MODELS)


async def answer_falsely(target: AttackedDeployment) -> AttackResult:
    """Answer with decompression bombs, without end, slowly and falsely."""
    url = target.peer.url
    nodes = [_node("http", {"url": f"{url}{path}", "timeoutS": 2, "retry": {"maxAttempts": 1}}) for path in PATHS]
    return await _run_and_test(target, nodes)


async def lie_as_models(target: AttackedDeployment) -> AttackResult:
    """Answer as a model: with a bomb, without end, slowly, with wrong lengths, and no protocol."""
    return await _run_and_test(target, [_node("llm", {"model": name, "prompt": "hi"}) for name in MODELS])


async def lie_as_mcp_servers(target: AttackedDeployment) -> AttackResult:
    """Answer as an MCP server: with a bomb, without end, slowly, with wrong lengths, and no protocol."""
    nodes = [_node("tool", {"tool": f"mcp:liar/{name}", "arguments": {}}) for name in TOOLS]
    return await _run_and_test(target, nodes)


def _node(type: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"id": "a", "type": type, "config": config, "timeoutS": 3, "retry": {"maxAttempts": 1}}


async def _run_and_test(target: AttackedDeployment, nodes: Sequence[dict[str, Any]]) -> AttackResult:
    """Run each node in a run of its own and in a node test. A peer may not succeed to lie."""
    runs = [_run(target, node) for node in nodes]
    answers = await asyncio.gather(*runs, _test_in_turn(target, nodes))
    return AttackResult(codes(answers))


async def _run(target: AttackedDeployment, node: dict[str, Any]) -> Any:
    spec = {"nodes": [node], "edges": []}
    return await target.execute(RUN, input={"spec": spec, "mode": "SYNC", "timeoutMs": 20_000})


async def _test_in_turn(target: AttackedDeployment, nodes: Sequence[dict[str, Any]]) -> list[Any]:
    """Test the nodes, four at a time: one caller may test no more at once."""
    limit = asyncio.Semaphore(4)

    async def test(node: dict[str, Any]) -> Any:
        async with limit:
            return await target.execute(TEST_NODE, input={"type": node["type"], "config": node["config"]})

    return await asyncio.gather(*map(test, nodes))
