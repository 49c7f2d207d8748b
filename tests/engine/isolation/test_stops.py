"""A cancel does not wait for a template that waits in the queue of the helper processes."""

import asyncio
from typing import Any

import pytest

from engine.expressions.evaluator import ExpressionError, render
from engine.isolation import suspension
from engine.isolation.client import PROCESSES
from engine.isolation.turns import Owner, working_for
from engine.runtime.executor import RunExecutor
from engine.runtime.run_info import StopReason
from engine.states import RunStatus
from tests.engine.memory_ports import RecordedJournal
from tests.engine.runtime.test_scheduler import executor_of
from tests.executor_worker import edges, node

ENDLESS = "{% for i in range(90000) %}{{ range(100000) | sum }}{% endfor %}"
HEAVY = "{% for i in range(2) %}{{ i }}{% endfor %}"
CONDITION = "[1, 2] | map('string') | list | length > 0"
INLINE = {"id": "b", "type": "transform", "config": {"output": HEAVY}}
SPECS: dict[str, Any] = {
    "the first node": {"nodes": [INLINE], "edges": []},
    "a later node": {"nodes": [node("a"), INLINE, node("c")], "edges": edges("a>b b>c")},
    "a node after a task": {"nodes": [node("a", "tick"), INLINE, node("c")], "edges": edges("a>b b>c")},
    "a node beside others": {"nodes": [*(node(f"n{at}") for at in range(300)), INLINE], "edges": []},
    "a task": {"nodes": [{**INLINE, "timeoutS": 60}], "edges": []},
}


async def endless() -> None:
    with working_for(Owner("prj_test", "another run")):
        try:
            await suspension.call(render, ENDLESS, {})
        except ExpressionError:
            return


async def wait_for_helper(executor: RunExecutor) -> None:
    async with asyncio.timeout(30):
        while not executor._tasks.waits_for_helpers._waiters:  # noqa: ASYNC110 (the wait has no event of its own)
            await asyncio.sleep(0)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("reason", [StopReason.CANCEL, StopReason.LEASE_LOST])
async def test_a_stop_does_not_wait_for_the_queue_of_the_helpers(spec: Any, reason: StopReason) -> None:
    crowd = asyncio.gather(*(endless() for _ in range(3 * PROCESSES)))
    await asyncio.sleep(0)
    journal = RecordedJournal()
    executor = executor_of(spec, journal)
    run = asyncio.ensure_future(executor.run())
    await wait_for_helper(executor)
    executor.request(reason)
    ended = await run
    assert not crowd.done()
    assert ended is (RunStatus.CANCELLED if reason is StopReason.CANCEL else None)
    assert not executor._tasks.waits_for_helpers._waiters
    crowd.cancel()
    await asyncio.gather(crowd, return_exceptions=True)


async def test_a_run_whose_start_was_interrupted_begins_again_from_its_start() -> None:
    spec = {"nodes": [node("a")], "edges": [{"source": "__start__", "target": "a", "condition": CONDITION}]}
    journal = RecordedJournal()
    crowd = asyncio.gather(*(endless() for _ in range(3 * PROCESSES)))
    await asyncio.sleep(0)
    executor = executor_of(spec, journal)
    run = asyncio.ensure_future(executor.run())
    await wait_for_helper(executor)
    executor.request(StopReason.CANCEL)
    assert await run is RunStatus.CANCELLED
    assert not crowd.done()
    assert all(entry.checkpoint is None for entry in journal.entries)
    crowd.cancel()
    await asyncio.gather(crowd, return_exceptions=True)
