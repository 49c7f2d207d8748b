"""A stopped run of a map: usage counts, finished items are saved, no cancel waits for a store."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.errors import NodeFailure
from engine.events import Usage
from engine.graph.compiler import compile_spec
from engine.nodes.map import pool
from engine.nodes.registry import load_node_types
from engine.runtime.executor import RunExecutor
from engine.runtime.run_info import RunInfo, StopReason
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Outcome, Output
from engine.sdk.node_types import NodeTypes
from engine.sdk.resources import DoneItem, MapVisit
from engine.spec.parser import parse
from engine.states import NodeStatus, RunStatus
from tests.engine.checkpoint_history import RecordingHeadStore
from tests.engine.memory_ports import RecordedJournal

PROMPT_S = 0.5
"""Seconds: far below `pool.FLUSH_S`, and enough for a busy machine."""


class MeteredConfig(NodeConfig):
    item: Any = None


MeteredConfig.model_fields["item"].json_schema_extra = {"format": "template"}
MeteredConfig.model_rebuild(force=True)


class MeteredNode(NodeType[MeteredConfig]):
    """Reports usage, and then returns 1, fails for 2, and hangs for any other item."""

    name = "taker"
    title = "MeteredNode"
    description = "For tests."
    Config = MeteredConfig

    def __init__(self) -> None:
        self.hangs = asyncio.Event()

    async def execute(self, config: MeteredConfig, ctx: NodeContext) -> Outcome:
        item = ctx.render(config.item)
        if item == 2:
            await self.hangs.wait()
        ctx.add_usage(Usage("model", 3, 2, 0.5))
        match item:
            case 1:
                return Output(item)
            case 2:
                raise NodeFailure("TEST", "no")
        self.hangs.set()
        await asyncio.Event().wait()
        return Output(None)


class Store:
    """MapItems whose `save` waits while the store is `away`."""

    def __init__(self) -> None:
        self.items: list[DoneItem] = []
        self.away, self.requested = False, asyncio.Event()
        self.fault: Exception | None = None

    async def load(self, visit: MapVisit) -> list[DoneItem]:
        return []

    async def save(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        self.requested.set()
        if self.away:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        self.items += items


class MapRun:
    """A run of one map over `items`, with the real executor."""

    def __init__(self, items: list[int], way: str = "node") -> None:
        self.usage_node, self.store, self.journal = MeteredNode(), Store(), RecordedJournal()
        node = {"type": "taker", "config": {"item": "{{ item }}"}}
        inner = node if way == "node" else {"nodes": [{"id": "t", **node}], "edges": []}
        spec = {"nodes": [{"id": "m", "type": "map", "config": {"items": items, way: inner}}], "edges": []}
        head = RecordingHeadStore()
        types = NodeTypes([*load_node_types().values(), self.usage_node])
        self.executor = RunExecutor(
            RunInfo("run_test", "prj_test", 1, 0, None),
            compile_spec(parse(spec), types, head),
            journal=self.journal,
            head=head,
            resources={"items": self.store},
        )
        self.running = asyncio.create_task(self.executor.run())

    async def ended(self, within_s: float = 20) -> RunStatus | None:
        return await asyncio.wait_for(self.running, within_s)


@pytest.fixture(autouse=True)
def _no_batch_is_saved_during_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BATCH_S", 60.0)


@pytest.mark.parametrize("way", ["node", "spec"])
async def test_the_usage_of_a_cancelled_item_counts(way: str) -> None:
    run = MapRun([1, 3], way)
    await run.usage_node.hangs.wait()
    run.executor.request(StopReason.CANCEL)
    assert await run.ended() is RunStatus.CANCELLED
    state = run.journal.states[-1]
    assert (state.status, state.usage) == (NodeStatus.CANCELLED, Usage("model", 6, 4, 1.0))


@pytest.mark.parametrize("way", ["node", "spec"])
async def test_the_usage_of_items_stopped_by_a_failure_counts(way: str) -> None:
    run = MapRun([1, 2, 3], way)
    assert await run.ended() is RunStatus.FAILED
    state = run.journal.states[-1]
    assert (state.status, state.usage) == (NodeStatus.FAILED, Usage("model", 9, 6, 1.5))


async def test_an_interrupted_map_saves_finished_items() -> None:
    run = MapRun([1, 3])
    await run.usage_node.hangs.wait()
    run.executor.request(StopReason.PAUSE)
    run.executor.interrupt()
    assert await run.ended() is RunStatus.PAUSED
    assert [item.index for item in run.store.items] == [0]


@pytest.mark.parametrize(("stop", "status"), [(StopReason.CANCEL, RunStatus.CANCELLED), (StopReason.LEASE_LOST, None)])
async def test_a_cancel_or_a_lost_lease_does_not_wait_for_the_store(stop: StopReason, status: RunStatus | None) -> None:
    run = MapRun([1, 3])
    await run.usage_node.hangs.wait()
    run.store.away = True
    run.executor.request(stop)
    assert await run.ended(PROMPT_S) is status
    assert not run.store.requested.is_set()


async def test_a_cancel_does_not_wait_for_an_interrupted_map_that_saves() -> None:
    run = MapRun([1, 3])
    await run.usage_node.hangs.wait()
    run.store.away = True
    run.executor.request(StopReason.PAUSE)
    run.executor.interrupt()
    await run.store.requested.wait()
    with capture_logs() as lines:
        run.executor.request(StopReason.CANCEL)
        assert await run.ended(PROMPT_S) is RunStatus.CANCELLED
    assert lines == []


@pytest.mark.parametrize(("fault", "message"), [(None, "not within 0.05 s"), (RuntimeError("disk full"), "disk full")])
async def test_the_reason_is_logged_if_the_last_batch_is_not_saved(
    monkeypatch: pytest.MonkeyPatch, fault: Exception | None, message: str
) -> None:
    monkeypatch.setattr(pool, "FLUSH_S", 0.05)
    run = MapRun([1, 3])
    await run.usage_node.hangs.wait()
    run.store.away, run.store.fault = fault is None, fault
    with capture_logs() as logged:
        run.executor.request(StopReason.PAUSE)
        run.executor.interrupt()
        assert await run.ended() is RunStatus.PAUSED
    [line] = logged
    assert (line["event"], line["log_level"], line["error"]) == ("map.items_not_stored", "warning", message)
