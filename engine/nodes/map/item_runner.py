"""One item of a `map`: run as a node, or as a spec of its own that is driven in memory. Nothing here is stored.

An item's templates see `item` and `index` and all that the map sees; its secrets are those that the map's call knows, and its
idempotency key is the map's with `/index`. Its logs say which item it is, what it takes of models adds up in the map.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from engine.events import EventData, LogRecorded, NodeChange, NodeState, OutputDelta, RunError, Usage
from engine.graph.bound_node import BoundNode
from engine.graph.compiler import CompiledGraph
from engine.graph.detached import detach
from engine.runtime.attempts import attempt
from engine.runtime.executor import RunExecutor
from engine.runtime.memory_checkpointer import MemoryHeadStore
from engine.runtime.node_context import RunNodeContext
from engine.runtime.ports import Entry, RunChange
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.sdk.node import Output
from engine.states import LogLevel, RunStatus
from engine.types import JSON

Ended = tuple[JSON, RunError | None]
"""The output, or what the item failed with."""


class RunItem(Protocol):
    async def __call__(self, index: int, item: JSON) -> Ended: ...


class NodeItems:
    """Each item is an execution of one node, with its attempts and its timeout."""

    def __init__(self, work: BoundNode, outer: RunNodeContext) -> None:
        self._work, self._outer = work, outer

    async def __call__(self, index: int, item: JSON) -> Ended:
        info, told = _facts(self._outer, index, item), _Told(self._outer, index)
        context = RunNodeContext(info, self._outer.node_id, self._outer.visit, info.names, self._outer.resources, told)
        context.idempotency_key = info.key
        result = await attempt(self._work, context, told.retrying, lambda number: None)
        if result.error is not None:
            return None, result.error
        if not isinstance(result.outcome, Output):
            return None, _waits(self._work.type.name)
        return result.outcome.value, None


class SpecItems:
    """Each item is a run of a spec, in memory: whatever is interrupted in it begins anew with its item."""

    def __init__(self, compiled: CompiledGraph, outer: RunNodeContext) -> None:
        self._compiled, self._outer = compiled, outer

    async def __call__(self, index: int, item: JSON) -> Ended:
        head, journal = MemoryHeadStore(), _Heard(_Told(self._outer, index))
        executor = RunExecutor(
            _facts(self._outer, index, item),
            head.bind(self._compiled),
            journal=journal,
            head=head,
            resources=self._outer.resources,
        )
        try:
            with detach():
                status = await executor.run()
        finally:
            journal.cut_off(executor.memory)
        if status is RunStatus.WAITING or journal.change is None:
            return None, _waits("spec")
        return journal.change.output, journal.change.error


def _facts(outer: RunNodeContext, index: int, item: JSON) -> RunInfo:
    around = outer.around(index, item)
    return replace(outer.info, around=around, timeout_s=None, breakpoints=frozenset(), is_step=False, failure=None)


def _waits(what: str) -> RunError:
    return RunError("CONFIG", f"it waits without a worker ({what}), which an item of a map cannot")


class _Told:
    """What the nodes of an item tell, passed on to the map's own context. Text and progress are the map's alone."""

    def __init__(self, outer: RunNodeContext, index: int) -> None:
        self._outer, self._index = outer, index

    def progress(self, fraction: float, message: str | None) -> None:
        """The map's progress is over its items."""

    def text(self, text: str) -> None:
        """Of many items at once it would be no text."""

    def add_usage(self, usage: Usage) -> None:
        self._outer.add_usage(usage)

    def post(self, at: datetime, what: EventData) -> None:
        if isinstance(what, LogRecorded):
            fields: Mapping[str, Any] = what.fields if isinstance(what.fields, dict) else {}
            self._outer.log(what.level, what.message, **{**fields, "index": self._index})

    def retrying(self, number: int, error: RunError, pause: float) -> None:
        message = f"item {self._index}: attempt {number} failed: {error.message}; the next in {pause:g} s"
        self._outer.log(LogLevel.WARNING, message, index=self._index, code=error.code)


class _Heard:
    """A journal whose every word is durable at once, since nothing of it is kept but how the run ended."""

    def __init__(self, told: _Told) -> None:
        self._told = told
        self.change: RunChange | None = None

    def commit(self, entry: Entry) -> Awaitable[int]:
        self.post(entry)
        self.change = entry.change or self.change
        landed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        landed.set_result(0)
        return landed

    def post(self, entry: Entry) -> None:
        for at, what in entry.events_to_write:
            self._told.post(at, what)
            if isinstance(what, NodeChange) and what.state.status.is_finished:
                self._count(what.state)

    def cut_off(self, memory: RunState) -> None:
        """The item has ended, maybe in the middle: what its nodes have taken counts, whether or not an entry tells of it."""
        self.post(Entry(memory.run_id, 0, events_to_write=memory.take()))
        for state in memory.states.values():
            if not state.status.is_finished:
                self._count(state)

    def _count(self, state: NodeState) -> None:
        if state.usage is not None:
            self._told.add_usage(state.usage)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Of many items at once it would be no text."""
