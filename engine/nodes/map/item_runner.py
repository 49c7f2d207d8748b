"""Runs one item of a `map`: as a single node, or as a spec that is executed in memory.

Nothing here is stored: an item that is interrupted starts again. The templates of an item can use
`item` and `index` and every name that the map can use. It uses the secrets that the map's call has
resolved, and its idempotency key is the map's key with `/index`. Its log lines carry the index, and
its token usage is added to the usage of the map.
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
from engine.isolation.suspension import suspendable
from engine.runtime.attempts import run_attempts
from engine.runtime.executor import RunExecutor
from engine.runtime.memory_checkpointer import MemoryHeadStore
from engine.runtime.node_context import RunNodeContext
from engine.runtime.ports import Entry, RunChange
from engine.runtime.run_info import RunInfo
from engine.runtime.run_state import RunState
from engine.sdk.node import Output
from engine.states import RunStatus
from engine.types import JSON

ItemResult = tuple[JSON, RunError | None]
"""The output of an item, and its error if it failed."""


class RunItem(Protocol):
    """Runs the item with this index (from 0).

    Raises NodeInterrupted if the run stops before another attempt at the item.
    """

    async def __call__(self, index: int, item: JSON) -> ItemResult: ...


class NodeItems:
    """Runs each item as an execution of one node, with its attempts and its timeout."""

    def __init__(self, bound: BoundNode, outer: RunNodeContext) -> None:
        self._bound, self._outer = bound, outer

    async def __call__(self, index: int, item: JSON) -> ItemResult:
        outer, info, reporter = self._outer, _item_info(self._outer, index, item), _ItemReporter(self._outer, index)
        context = RunNodeContext(
            info, outer.node_id, outer.visit, info.outer_names, outer.resources, reporter, stopping=outer.stopping
        )
        context.idempotency_key = info.key
        result = await suspendable(run_attempts(self._bound, context))
        if result.error is not None:
            return None, result.error
        if not isinstance(result.outcome, Output):
            return None, _wait_error(self._bound.type.name)
        return result.outcome.value, None


class SpecItems:
    """Runs each item as a run of a spec in memory.

    An interrupted item starts again from its first node.
    """

    def __init__(self, compiled: CompiledGraph, outer: RunNodeContext, inputs: JSON) -> None:
        """`inputs` is what the templates of the spec see as `input`."""
        self._compiled, self._outer, self._inputs = compiled, outer, inputs

    async def __call__(self, index: int, item: JSON) -> ItemResult:
        head, journal = MemoryHeadStore(), _MemoryJournal(_ItemReporter(self._outer, index))
        executor = RunExecutor(
            replace(_item_info(self._outer, index, item), inputs=self._inputs),
            head.bind(self._compiled),
            journal=journal,
            head=head,
            resources=self._outer.resources,
        )
        try:
            with detach():
                status = await executor.run()
        finally:
            journal.finish(executor.state)
        if status is RunStatus.WAITING or journal.change is None:
            return None, _wait_error("spec")
        return journal.change.output, journal.change.error


def _item_info(outer: RunNodeContext, index: int, item: JSON) -> RunInfo:
    """Return the info of the map's run for an item.

    It has the names and secrets of the item, and neither a time limit nor breakpoints nor a thread.
    """
    item_scope = outer.item_scope(index, item)
    return replace(
        outer.info,
        item_scope=item_scope,
        timeout_s=None,
        breakpoints=frozenset(),
        is_step=False,
        failure=None,
        thread_key=None,
    )


def _wait_error(name: str) -> RunError:
    return RunError("CONFIG", f"it waits without a worker ({name}), which an item of a map cannot do")


class _ItemReporter:
    """Passes logs and usage of an item's nodes to the context of the map.

    Drops their text, thinking, finish reasons and progress.
    """

    def __init__(self, outer: RunNodeContext, index: int) -> None:
        self._outer, self._index = outer, index

    def progress(self, fraction: float, message: str | None) -> None:
        """Dropped: the progress of a map counts its items."""

    def text(self, text: str) -> None:
        """Dropped: the texts of concurrent items would be mixed."""

    def thinking(self, text: str) -> None:
        """Dropped as the text."""

    def finish_reason(self, reason: str | None) -> None:
        """Dropped: each item has its own. A cut answer is in the log."""

    def end_attempt(self) -> None:
        """Nothing is left to be reported."""

    def add_usage(self, usage: Usage) -> None:
        self._outer.add_usage(usage)

    def post(self, at: datetime, data: EventData) -> None:
        """Log a line of the item with its index; drop all other events."""
        if isinstance(data, LogRecorded):
            fields: Mapping[str, Any] = data.fields if isinstance(data.fields, dict) else {}
            self._outer.log(data.level, data.message, **{**fields, "index": self._index})


class _MemoryJournal:
    """A journal that commits at once, since it keeps only how the run ended: `change`."""

    def __init__(self, reporter: _ItemReporter) -> None:
        self._reporter = reporter
        self.change: RunChange | None = None

    def commit(self, entry: Entry) -> Awaitable[int]:
        self.post(entry)
        self.change = entry.change or self.change
        committed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        committed.set_result(0)
        return committed

    def post(self, entry: Entry) -> None:
        for at, data in entry.events_to_write:
            self._reporter.post(at, data)
            if isinstance(data, NodeChange) and data.state.status.is_finished:
                self._count(data.state)

    def finish(self, state: RunState) -> None:
        """Report the remaining events, and the usage of nodes that were interrupted."""
        self.post(Entry(state.run_id, 0, events_to_write=state.take_events()))
        for node_state in state.node_states.values():
            if not node_state.status.is_finished:
                self._count(node_state)

    def _count(self, state: NodeState) -> None:
        if state.usage is not None:
            self._reporter.add_usage(state.usage)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        """Dropped: the texts of concurrent items would be mixed."""
