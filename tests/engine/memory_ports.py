"""The protocols of the engine in memory, for tests of the order of execution without storage."""

from collections.abc import Awaitable
from typing import Any

from engine.events import NodeChange, NodeState, OutputDelta
from engine.graph.compiler import compile_spec
from engine.nodes.registry import load_node_types
from engine.runtime.executor import RunExecutor
from engine.runtime.memory_checkpointer import MemoryHeadStore
from engine.runtime.ports import Entry
from engine.runtime.run_info import RunInfo
from engine.spec.parser import parse
from engine.states import NodeStatus

TYPES = load_node_types()


class RecordedJournal:
    """A journal that records all entries in order."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.deltas: list[OutputDelta] = []

    async def _last_seq(self) -> int:
        return sum(len(entry.events_to_write) for entry in self.entries)

    def commit(self, entry: Entry) -> Awaitable[int]:
        self.entries.append(entry)
        return self._last_seq()

    def post(self, entry: Entry) -> None:
        self.entries.append(entry)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        self.deltas.append(delta)

    @property
    def states(self) -> list[NodeState]:
        events = [event for entry in self.entries for _, event in entry.events_to_write]
        return [event.state for event in events if isinstance(event, NodeChange)]


async def play(
    raw: dict[str, Any], inputs: Any = None, journal: RecordedJournal | None = None
) -> tuple[RunExecutor, list[tuple[str, NodeStatus]]]:
    """Execute a spec of inline nodes.

    Returns:
        The executor, and (node id, status) of each finished visit in order.
    """
    journal = journal or RecordedJournal()
    compiled = compile_spec(parse(raw), TYPES)
    head = MemoryHeadStore()
    info = RunInfo("run_test", "prj_test", 1, 0, inputs)
    executor = RunExecutor(info, head.bind(compiled), journal=journal, head=head, resources={})
    await executor.run()
    settled = [state for state in journal.states if state.status.is_finished]
    # The end of a loop shows the latest visit of a skipped node again. That is not a visit.
    first = {(state.node_id, state.visits): at for at, state in reversed([*enumerate(settled)]) if not is_skip(state)}
    return executor, [
        (state.node_id, state.status)
        for at, state in enumerate(settled)
        if is_skip(state) or first[state.node_id, state.visits] == at
    ]


def is_skip(state: NodeState) -> bool:
    return state.status is NodeStatus.SKIPPED
