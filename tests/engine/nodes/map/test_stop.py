"""A map whose run is stopped: what it has taken is told, what it has done is kept, and no cancel waits for a slow store."""

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
"""Far below `pool.FLUSH_S`; the machine may be busy."""


class TakerConfig(NodeConfig):
    item: Any = None


TakerConfig.model_fields["item"].json_schema_extra = {"format": "template"}
TakerConfig.model_rebuild(force=True)


class Taker(NodeType[TakerConfig]):
    """Takes something of a model, and then gives 1, fails for 2, and hangs for anything else."""

    name = "taker"
    title = "Taker"
    description = "For tests."
    Config = TakerConfig

    def __init__(self) -> None:
        self.hangs = asyncio.Event()

    async def execute(self, config: TakerConfig, ctx: NodeContext) -> Outcome:
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
    """The port `MapItems`. While it is `away`, whoever keeps something waits."""

    def __init__(self) -> None:
        self.items: list[DoneItem] = []
        self.away, self.asked = False, asyncio.Event()
        self.fault: Exception | None = None

    async def load(self, visit: MapVisit) -> list[DoneItem]:
        return []

    async def save(self, visit: MapVisit, items: Sequence[DoneItem]) -> None:
        self.asked.set()
        if self.away:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        self.items += items


class MapRun:
    """A run of one map over `items`, by the real drive."""

    def __init__(self, items: list[int], way: str = "node") -> None:
        self.taker, self.store, self.journal = Taker(), Store(), RecordedJournal()
        node = {"type": "taker", "config": {"item": "{{ item }}"}}
        inner = node if way == "node" else {"nodes": [{"id": "t", **node}], "edges": []}
        spec = {"nodes": [{"id": "m", "type": "map", "config": {"items": items, way: inner}}], "edges": []}
        head = RecordingHeadStore()
        types = NodeTypes([*load_node_types().values(), self.taker])
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
def _nothing_is_kept_by_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BATCH_S", 60.0)


@pytest.mark.parametrize("way", ["node", "spec"])
async def test_what_an_item_that_is_cancelled_has_taken_counts(way: str) -> None:
    run = MapRun([1, 3], way)
    await run.taker.hangs.wait()
    run.executor.request(StopReason.CANCEL)
    assert await run.ended() is RunStatus.CANCELLED
    state = run.journal.states[-1]
    assert (state.status, state.usage) == (NodeStatus.CANCELLED, Usage("model", 6, 4, 1.0))


@pytest.mark.parametrize("way", ["node", "spec"])
async def test_what_items_have_taken_that_are_stopped_for_another_one_s_failure_counts(way: str) -> None:
    run = MapRun([1, 2, 3], way)
    assert await run.ended() is RunStatus.FAILED
    state = run.journal.states[-1]
    assert (state.status, state.usage) == (NodeStatus.FAILED, Usage("model", 9, 6, 1.5))


async def test_an_interrupted_map_keeps_what_is_done() -> None:
    run = MapRun([1, 3])
    await run.taker.hangs.wait()
    run.executor.request(StopReason.PAUSE)
    run.executor.interrupt()
    assert await run.ended() is RunStatus.PAUSED
    assert [item.index for item in run.store.items] == [0]


@pytest.mark.parametrize(("stop", "status"), [(StopReason.CANCEL, RunStatus.CANCELLED), (StopReason.LEASE_LOST, None)])
async def test_a_cancel_and_a_lost_lease_wait_for_nothing_to_be_kept(
    stop: StopReason, status: RunStatus | None
) -> None:
    run = MapRun([1, 3])
    await run.taker.hangs.wait()
    run.store.away = True
    run.executor.request(stop)
    assert await run.ended(PROMPT_S) is status
    assert not run.store.asked.is_set()


async def test_a_cancel_does_not_wait_for_an_interrupted_map_that_keeps_what_is_done() -> None:
    run = MapRun([1, 3])
    await run.taker.hangs.wait()
    run.store.away = True
    run.executor.request(StopReason.PAUSE)
    run.executor.interrupt()
    await run.store.asked.wait()
    with capture_logs() as told:
        run.executor.request(StopReason.CANCEL)
        assert await run.ended(PROMPT_S) is RunStatus.CANCELLED
    assert told == []


@pytest.mark.parametrize(("fault", "told"), [(None, "not within 0.05 s"), (RuntimeError("no room"), "no room")])
async def test_why_the_rest_was_not_kept_is_logged(
    monkeypatch: pytest.MonkeyPatch, fault: Exception | None, told: str
) -> None:
    monkeypatch.setattr(pool, "FLUSH_S", 0.05)
    run = MapRun([1, 3])
    await run.taker.hangs.wait()
    run.store.away, run.store.fault = fault is None, fault
    with capture_logs() as logged:
        run.executor.request(StopReason.PAUSE)
        run.executor.interrupt()
        assert await run.ended() is RunStatus.PAUSED
    [line] = logged
    assert (line["event"], line["log_level"], line["error"]) == ("map.rest_not_kept", "warning", told)
