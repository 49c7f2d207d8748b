"""Attacks that try to hold the event loop, the helper processes or the sandboxes of others.

Each attack is a function of an `Execute`, a client of a running instance, and ends by itself. `probe`
measures how long others wait during an attack.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from time import perf_counter
from typing import Any, Protocol

ENDLESS = "{% for i in range(90000) %}{{ range(100000) | sum }}{% endfor %}"
"""A template that takes all of its CPU time."""
EVALUATE = "query ($text: String!) { evaluateExpression(expression: $text, context: {}) { errors { message } } }"
VALIDATE = "query ($spec: JSON!) { validateSpec(spec: $spec) { ok } }"
TEST_NODE = "mutation ($input: TestNodeInput!) { testNode(input: $input) { __typename errors { code } } }"
RUN = "mutation ($input: RunAdhocInput!) { runAdhoc(input: $input) { run { id status } errors { code } } }"
CANCEL = "mutation ($id: ID!) { cancelRun(input: {runId: $id}) { errors { code } } }"
LIGHT_RUN = {"nodes": [{"id": "a", "type": "transform", "config": {"output": "{{ 1 + 1 }}"}}], "edges": []}


class Execute(Protocol):
    """Executes an operation, and returns the whole response, errors included."""

    async def __call__(self, query: str, **variables: Any) -> Mapping[str, Any]: ...


Attack = Callable[[Execute], Coroutine[Any, Any, object]]


async def evaluate_endless_templates(execute: Execute) -> object:
    """Send 20 expressions at once, each of which takes all of its CPU time."""
    return await asyncio.gather(*(execute(EVALUATE, text=ENDLESS) for _ in range(20)))


async def validate_large_specs(execute: Execute) -> object:
    """Send 10 specs of 1,000 nodes at once."""
    nodes = [
        {"id": f"n{i}", "type": "transform", "config": {"output": "{{ input.a | upper }}" * 20}} for i in range(1000)
    ]
    spec = {"nodes": nodes, "edges": [{"source": f"n{i}", "target": f"n{i + 1}"} for i in range(999)]}
    return await asyncio.gather(*(execute(VALIDATE, spec=spec) for _ in range(10)))


async def try_endless_nodes(execute: Execute) -> object:
    """Test 8 nodes at once whose templates take all of their CPU time."""
    node = {"type": "transform", "config": {"output": ENDLESS}, "context": {}}
    return await asyncio.gather(*(execute(TEST_NODE, input=node) for _ in range(8)))


async def run_endless_templates(execute: Execute) -> object:
    """Run 20 nodes beside each other whose templates take all of their CPU time, and cancel them at the end."""
    nodes = [{"id": f"n{i}", "type": "transform", "config": {"output": ENDLESS}} for i in range(20)]
    return await _run_and_cancel(execute, {"nodes": nodes, "edges": []})


async def run_endless_code(execute: Execute) -> object:
    """Run 20 code nodes that never end."""
    config = {"code": "def process():\n    while True: pass", "timeoutS": 3600}
    return await _run_and_cancel(
        execute, {"nodes": [{"id": f"c{i}", "type": "code", "config": config} for i in range(20)], "edges": []}
    )


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        evaluate_endless_templates,
        validate_large_specs,
        try_endless_nodes,
        run_endless_templates,
        run_endless_code,
    )
}


async def _run_and_cancel(execute: Execute, spec: Any) -> object:
    started = await execute(RUN, input={"spec": spec, "mode": "SYNC", "timeoutMs": 1500})
    run = started["data"]["runAdhoc"]["run"]
    return await execute(CANCEL, id=run["id"])


async def longest_wait(attack: Awaitable[object], probe: Callable[[], Awaitable[object]]) -> tuple[object, float]:
    """Probe again and again until an attack has ended.

    Returns:
        What the attack returns, and the longest time that a probe took, in seconds.
    """
    worst_s, task = 0.0, asyncio.ensure_future(attack)
    while not task.done():
        started_at = perf_counter()
        await probe()
        worst_s = max(worst_s, perf_counter() - started_at)
        await asyncio.wait({task}, timeout=0.02)
    return await task, worst_s
