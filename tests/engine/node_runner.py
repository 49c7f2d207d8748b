"""Run one node without a workflow, and record what it emits."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from engine.events import EventData, LogRecorded, NodeChange, NodeState, OutputDelta
from engine.isolation.suspension import suspendable
from engine.nodes.registry import load_node_types
from engine.runtime.node_context import RunNodeContext
from engine.runtime.ports import Entry
from engine.runtime.reporter import NodeReporter
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.sdk.node import Outcome
from engine.sdk.node_types import NodeTypes

TYPES = load_node_types()


class NodeHarness:
    """The context of one node, and a journal that records its events, messages and text.

    `posted` and `streamed` are set when the node posts an event or streams text.
    """

    def __init__(
        self,
        scope: dict[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        types: NodeTypes = TYPES,
    ) -> None:
        self.events: list[EventData] = []
        self.messages: list[str | None] = []
        self.deltas: list[OutputDelta] = []
        self.posted, self.streamed = asyncio.Event(), asyncio.Event()
        info = RunInfo("run_1", "prj_1", 1, 0, (scope or {}).get("input"))
        self._state = RunState("run_1", 1)
        report = NodeReporter(info, "n", 1, self._state, self)
        self.context = RunNodeContext(info, "n", 1, scope or {}, resources or {}, report, types=types)

    @property
    def state(self) -> NodeState:
        return self._state.node_state("n")

    @property
    def log_messages(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, LogRecorded)]

    def post(self, entry: Entry) -> None:
        for _, event in entry.events_to_write:
            self.events.append(event)
            if isinstance(event, NodeChange):
                self.messages.append(event.state.message)
        self.posted.set()

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        self.deltas.append(delta)
        self.streamed.set()

    def commit(self, entry: Entry) -> Awaitable[int]:
        raise AssertionError("a node commits nothing")

    async def run(self, name: str, config: dict[str, Any]) -> Outcome:
        kind = TYPES[name]
        return await suspendable(kind.execute(kind.Config.model_validate(config), self.context))
