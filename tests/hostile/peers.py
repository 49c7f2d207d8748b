"""Attacks of an HTTP server that a workflow calls, in a run and in a node test."""

import asyncio
from typing import Any

from tests.hostile.turns import TEST_NODE, Execute

RUN = """
mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) { run { status error { code } } errors { code } } }
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


async def answer_falsely(execute: Execute, url: str) -> object:
    """Answer with bombs, without end, slowly and falsely."""
    configs = [{"url": f"{url}{path}", "timeoutS": 2, "retry": {"maxAttempts": 1}} for path in PATHS]
    tests = [execute(TEST_NODE, input={"type": "http", "config": config, "context": {}}) for config in configs]
    runs = [execute(RUN, input={"spec": _spec(config), "mode": "SYNC"}) for config in configs]
    return await asyncio.gather(*tests, *runs)


def _spec(config: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": [{"id": "a", "type": "http", "config": config}], "edges": []}
