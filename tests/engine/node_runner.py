"""A node executed by itself: what it is given, and what it told."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from engine.events import EventData, LogRecorded, NodeChange, NodeState, OutputDelta
from engine.nodes.registry import load_node_types
from engine.runtime.node_context import RunNodeContext
from engine.runtime.ports import Entry
from engine.runtime.reporter import NodeReporter
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.sdk.node import Outcome
from engine.sdk.node_types import NodeTypes

TYPES = load_node_types()


class Given:
    """What a node is given, and what it told."""

    def __init__(
        self,
        scope: dict[str, Any] | None = None,
        resources: Mapping[str, Any] | None = None,
        types: NodeTypes = TYPES,
    ) -> None:
        self.events_to_write: list[EventData] = []
        self.shown: list[str | None] = []
        self.texts: list[OutputDelta] = []
        self.saw, self.spoke = asyncio.Event(), asyncio.Event()
        info = RunInfo("run_1", "prj_1", 1, 0, (scope or {}).get("input"))
        self._state = RunState("run_1", 1, {})
        report = NodeReporter(info, "n", 1, self._state, self)
        self.context = RunNodeContext(info, "n", 1, scope or {}, resources or {}, report, types=types)

    @property
    def state(self) -> NodeState:
        return self._state.node_state("n")

    @property
    def logged(self) -> list[str]:
        return [what.message for what in self.events_to_write if isinstance(what, LogRecorded)]

    def post(self, entry: Entry) -> None:
        for _, what in entry.events_to_write:
            self.events_to_write.append(what)
            if isinstance(what, NodeChange):
                self.shown.append(what.state.message)
        self.saw.set()

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        self.texts.append(delta)
        self.spoke.set()

    def commit(self, entry: Entry) -> Awaitable[int]:
        raise AssertionError("a node commits nothing")

    async def run(self, name: str, config: dict[str, Any]) -> Outcome:
        kind = TYPES[name]
        return await kind.execute(kind.Config.model_validate(config), self.context)
