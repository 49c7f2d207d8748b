"""Sandboxes are given to projects in turn, and no code uses one for longer than the host allows."""

import asyncio
from time import perf_counter
from typing import Any

import pytest
from pydantic_monty import AsyncMonty

from engine.errors import NodeFailure
from engine.isolation.turns import FairSlots, Owner, working_for
from engine.nodes.code.node import CodeNode
from engine.nodes.registry import load_node_types
from engine.sdk.node import Output
from engine.validation.validator import validate
from tests.engine.node_runner import NodeHarness

ENDLESS = "def process():\n    while True: pass"
QUICK = "def process():\n    return 1"


async def run(project: str, resources: dict[str, Any], code: str) -> Any:
    with working_for(Owner(project, "run")):
        outcome = await NodeHarness({}, resources).run("code", {"code": code, "timeoutS": 60})
    assert isinstance(outcome, Output)
    return outcome.value


async def test_endless_loops_of_one_project_leave_a_sandbox_to_the_others() -> None:
    async with AsyncMonty(min_processes=2, max_processes=2) as pool:
        resources = {"sandbox": pool, "sandbox_turns": FairSlots(2, 1)}
        started_at = perf_counter()
        assert await run("victim", resources, QUICK) == 1
        alone_s = perf_counter() - started_at
        attack = [asyncio.create_task(run("attacker", resources, ENDLESS)) for _ in range(20)]
        await asyncio.sleep(0)
        started_at = perf_counter()
        assert await run("victim", resources, QUICK) == 1
        assert perf_counter() - started_at < max(alone_s * 10, 2)
        assert not any(task.done() for task in attack)
        for task in attack:
            task.cancel()
        await asyncio.wait(attack)
        assert await asyncio.gather(*(run(project, resources, QUICK) for project in ("a", "a", "b"))) == [1, 1, 1]


@pytest.mark.parametrize("held", [True, False])
async def test_a_cancelled_wait_loses_no_slot(held: bool) -> None:
    slots = FairSlots(1, 1)
    is_held, may_end = asyncio.Event(), asyncio.Event()

    async def hold(owner: str) -> None:
        with working_for(Owner(owner)):
            async with slots.slot():
                is_held.set()
                await may_end.wait()

    first = asyncio.create_task(hold("a"))
    await is_held.wait()
    second = asyncio.create_task(hold("b"))
    await asyncio.sleep(0)
    may_end.set()
    if held:
        await first  # The slot passes to the second in the same step in which it is cancelled.
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with asyncio.timeout(5):
        await hold("c")


async def test_the_host_limits_the_time_of_code_and_says_so() -> None:
    node, config = CodeNode(0.2), {"code": ENDLESS, "timeoutS": 3600}
    async with AsyncMonty(min_processes=1, max_processes=1) as pool:
        with pytest.raises(NodeFailure, match=r"within 0\.2 s, the maximum of this host") as failed:
            await node.execute(node.Config.model_validate(config), NodeHarness({}, {"sandbox": pool}).context)
    assert failed.value.code == "TIMEOUT"


@pytest.mark.parametrize(("timeout_s", "warns"), [(0.5, False), (1, False), (1.5, True), (3600, True)])
def test_validation_warns_of_a_time_that_the_host_does_not_allow(timeout_s: float, warns: bool) -> None:
    node = {"id": "c", "type": "code", "config": {"code": QUICK, "timeoutS": timeout_s}}
    spec: Any = {"nodes": [node], "edges": []}
    report = validate(spec, load_node_types(1))
    assert report.ok
    warnings = [warning for warning in report.warnings if "maximum of this host" in warning.message]
    assert [warning.field for warning in warnings] == (["nodes[0].config.timeoutS"] if warns else [])
