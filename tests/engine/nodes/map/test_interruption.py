"""Interrupted `map` nodes: finished items are saved, and another attempt runs only the rest."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from engine.errors import NodeFailure, NodeInterrupted
from engine.graph.bound_node import BoundNode
from engine.nodes.map import pool
from engine.nodes.map.pool import digest_of
from engine.runtime.attempts import run_attempt
from engine.sdk.resources import DoneItem
from engine.spec.model import NodeSpec, Retry
from engine.types import JSON
from tests.engine.node_runner import NodeHarness
from tests.engine.nodes.map.map_nodes import MapProbe, MemoryItems, run_map, types_with


async def test_a_cancel_stops_all_items_at_once_and_saves_the_finished_ones() -> None:
    probe, store = MapProbe(), MemoryItems()
    does = "{{ 'hang' if item > 3 else 'output' }}"
    node = {"type": "probe", "config": {"sees": "{{ item }}", "does": does}}
    harness = NodeHarness(resources={"items": store})
    running = asyncio.create_task(run_map(harness, probe, items=list(range(20)), node=node, concurrency=5))
    await probe.hanging.wait()
    while sum(probe.ran.values()) < 9:  # noqa: ASYNC110 (four that are done, five that hang)
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert probe.running == 0 and len(probe.ran) == 9
    assert sorted(store.items) == [0, 1, 2, 3]


async def test_a_stop_of_the_run_begins_no_further_items_and_lets_the_others_finish() -> None:
    probe, store = MapProbe(), MemoryItems()
    harness = NodeHarness(resources={"items": store})
    node = {"type": "probe", "config": {"sees": "{{ item }}"}}
    config = {"items": list(range(20)), "node": node, "concurrency": 3}
    running = asyncio.create_task(run_map(harness, probe, **config))
    while len(probe.ran) < 6:  # noqa: ASYNC110 (three that are done, three that run)
        await asyncio.sleep(0)
    harness.context.stopping.set()
    begun = set(probe.ran)
    with pytest.raises(NodeInterrupted):
        await running
    assert set(probe.ran) == begun
    assert len(store.items) == len(begun) < 20
    harness.context.stopping.clear()
    assert (await run_map(harness, probe, **config))["items"] == list(range(20))
    assert set(probe.ran.values()) == {1}


async def test_a_stop_of_the_run_ends_the_backoff_of_an_item_at_once() -> None:
    probe, harness = MapProbe(), NodeHarness(resources={"items": MemoryItems()})
    node = {"type": "probe", "config": {"does": "once"}, "retry": {"maxAttempts": 2, "backoffS": 60}}
    running = asyncio.create_task(run_map(harness, probe, items=[1, 2], node=node))
    while len(harness.log_messages) < 2:  # noqa: ASYNC110 (both items are in their backoff)
        await asyncio.sleep(0)
    harness.context.stopping.set()
    with pytest.raises(NodeInterrupted):
        await asyncio.wait_for(running, 5)
    assert set(probe.ran.values()) == {1}


@pytest.mark.parametrize(("asks", "pause_s"), [({"retryAfterS": 7.5}, 7.5), ({"retryAfterS": 900}, 60), (None, 1)])
@pytest.mark.parametrize("inner", ["node", "spec"])
async def test_the_retry_of_a_map_waits_as_long_as_the_service_of_an_item_asks(
    inner: str, asks: JSON, pause_s: float
) -> None:
    busy = {"type": "probe", "config": {"sees": "{{ input }}", "does": "busy"}}
    ways: dict[str, JSON] = {"node": busy, "spec": {"nodes": [{"id": "p", **busy}]}}
    config = {"items": [1], inner: ways[inner]}
    harness = NodeHarness({"input": asks})
    types = harness.context.types = types_with(MapProbe())
    node = NodeSpec("n", "map", config=config, retry=Retry(max_attempts=2))
    bound = BoundNode(node, types["map"], types["map"].Config.model_validate(config), types=types)
    assert (await run_attempt(bound, harness.context)).backoff_s == pause_s


async def test_a_failure_stops_the_others_and_another_attempt_runs_only_the_rest() -> None:
    probe, harness = MapProbe(), NodeHarness(resources={"items": MemoryItems()})
    does = "{{ 'once' if item == 5 else 'output' }}"
    config = {
        "items": list(range(10)),
        "concurrency": 1,
        "node": {"type": "probe", "config": {"sees": "{{ item }}", "does": does}},
    }
    with pytest.raises(NodeFailure, match="item 5: not yet"):
        await run_map(harness, probe, **config)
    assert len(probe.ran) == 6
    assert (await run_map(harness, probe, **config))["items"] == list(range(10))
    assert probe.ran.pop("run_1/0/n/1/5") == 2
    assert set(probe.ran.values()) == {1}


async def test_a_result_of_a_changed_item_is_not_reused() -> None:
    """When a map runs again, its list may be another one: other branches have continued since."""
    probe, harness = MapProbe(), NodeHarness({"input": ["a", "x", "c", "d"]}, {"items": (store := MemoryItems())})
    store.items = {index: DoneItem(index, digest_of(item), f'"{item}{item}"') for index, item in enumerate("abcde")}
    config = {"items": "{{ input }}", "node": {"type": "probe", "config": {"sees": "{{ item }}{{ item }}"}}}
    assert (await run_map(harness, probe, **config))["items"] == ["aa", "xx", "cc", "dd"]
    assert probe.ran == {"run_1/0/n/1/1": 1}


async def test_a_worker_that_has_lost_the_run_stops() -> None:
    store = MemoryItems()
    store.is_fenced = True
    node = {"type": "probe", "config": {"does": "{{ 'hang' if index else 'output' }}"}}
    with pytest.raises(NodeFailure, match="another worker has claimed the run"):
        await run_map(NodeHarness(resources={"items": store}), MapProbe(), items=[1, 2], node=node)


async def test_progress_counts_items_and_continues_after_an_interruption() -> None:
    probe, store = MapProbe(), MemoryItems()
    store.items = {index: DoneItem(index, digest_of(index + 1), "0") for index in range(3)}
    harness = NodeHarness(resources={"items": store})
    node = {"type": "probe", "config": {"does": "hang"}}
    running = asyncio.create_task(run_map(harness, probe, items=[1, 2, 3, 4], node=node))
    await probe.hanging.wait()
    assert harness.state.progress == 0.75 and harness.state.message == "3 of 4 items"
    running.cancel()
    await asyncio.wait([running])


@settings(max_examples=60)
@drawn(
    items=st.lists(st.one_of(st.integers(-9, 9), st.text("aé{}", max_size=4), st.none()), max_size=25),
    failing=st.sets(st.integers(0, 24)),
    concurrency=st.integers(1, 8),
    crash_at=st.integers(1, 60),
    way=st.sampled_from(["node", "spec"]),
)
async def test_the_output_equals_that_of_a_sequential_run_despite_failures_and_crashes(
    items: list[JSON], failing: set[int], concurrency: int, crash_at: int, way: str
) -> None:
    probe, store = MapProbe(), MemoryItems()
    probing = {
        "type": "probe",
        "config": {"sees": "{{ item }}", "does": f"{{{{ 'fail' if index in {sorted(failing)} else 'output' }}}}"},
    }
    spec = {"nodes": [{"id": "p", **probing}, {"id": "end", "type": "end", "config": {"output": "{{ p.output }}"}}]}
    inner = probing if way == "node" else {**spec, "edges": [{"source": "p", "target": "end"}]}
    config = {"items": "{{ input }}", "concurrency": concurrency, "onItemError": "collect", way: inner}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "BATCH", 2)
        running = asyncio.create_task(run_map(NodeHarness({"input": items}, {"items": store}), probe, **config))
        while not running.done() and sum(probe.ran.values()) < crash_at:  # noqa: ASYNC110 (the crash comes anywhere)
            await asyncio.sleep(0)
    store.is_dead = True
    running.cancel()
    await asyncio.wait([running])
    before, store.is_dead = set(store.items), False
    output = await run_map(NodeHarness({"input": items}, {"items": store}), probe, **config)

    fails = [index for index in range(len(items)) if index in failing]
    assert output["items"] == [None if index in failing else item for index, item in enumerate(items)]
    assert [error["index"] for error in output["errors"]] == fails
    ran = Counter(key.split("/")[4] for key in probe.ran.elements())
    assert all(ran[str(index)] == 1 for index in before)
    assert all(1 <= ran[str(index)] <= 2 for index in range(len(items)))
