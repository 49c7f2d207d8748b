"""Answers that the scripted model sends: text, calls, and how a node takes them."""

import json
from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.sdk.node import Output
from tests.engine.nodes.ai.llm_nodes import LlmHarness

Chunks = list[list[Any]]


def raw(chunks: Chunks, then: Chunks | None = None) -> list[dict[str, str]]:
    text = f"RAW:{json.dumps(chunks)}" + (f"THEN:{json.dumps(then)}" if then else "")
    return [{"role": "user", "content": "{% raw %}" + text + "{% endraw %}"}]


def called(arguments: str | None, reason: str = "tool_calls", **more: Any) -> Chunks:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "hash_text", "arguments": arguments}}
    call = {name: value for name, value in {**call, **more}.items() if value != "absent"}
    return [[{"role": "assistant", "content": None}, None], [{"tool_calls": [call]}, None], [{}, reason]]


def said(*deltas: dict[str, Any], reason: str = "stop") -> Chunks:
    return [[{"role": "assistant", "content": ""}, None], *([delta, None] for delta in deltas), [{}, reason]]


async def run(llm: LlmHarness, kind: str, chunks: Chunks, then: Chunks | None = None, **config: Any) -> tuple[Any, Any]:
    """Run a node against the scripted model. Return its output and the harness."""
    harness = llm.harness()
    tools = {"tools": ["hash_text"]} if kind == "agent" else {}
    outcome = await harness.run(kind, {"model": "plain", "messages": raw(chunks, then), **tools, **config})
    harness.context.flush_text()
    assert isinstance(outcome, Output)
    return outcome.value, harness


async def failure(llm: LlmHarness, kind: str, chunks: Chunks, then: Chunks | None = None, **config: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as caught:
        await run(llm, kind, chunks, then, **config)
    return caught.value
