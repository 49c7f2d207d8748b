"""The engine's ports kept in memory: for tests of what runs in which order, where no storage is the point."""

from collections.abc import Awaitable, Sequence
from typing import Any

from engine.events import NodeChange, NodeState, OutputDelta
from engine.graph.channels import Write
from engine.graph.compiler import compile_spec
from engine.nodes.registry import load_node_types
from engine.runtime.executor import RunExecutor
from engine.runtime.ports import AttachedRun, Entry, PendingWrite
from engine.runtime.run_info import RunInfo
from engine.spec.parser import parse
from engine.states import NodeStatus

TYPES = load_node_types()


class RecordedJournal:
    """Keeps entries in their order."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.deltas: list[OutputDelta] = []

    async def _landed(self) -> int:
        return sum(len(one.events_to_write) for one in self.entries)

    def commit(self, entry: Entry) -> Awaitable[int]:
        self.entries.append(entry)
        return self._landed()

    def post(self, entry: Entry) -> None:
        self.entries.append(entry)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        self.deltas.append(delta)

    @property
    def states(self) -> list[NodeState]:
        happened = [what for entry in self.entries for _, what in entry.events_to_write]
        return [what.state for what in happened if isinstance(what, NodeChange)]


class NoHead:
    """A run without checkpoints: quick nodes alone need none."""

    async def attach(self, run: AttachedRun) -> None:
        return None

    def detach(self, run_id: str) -> None:
        return None

    def enter(self, run_id: str, writes: Sequence[Write]) -> tuple[list[Write], list[PendingWrite]]:
        raise AssertionError("nothing is launched in these tests")


async def play(
    raw: dict[str, Any], inputs: Any = None, journal: RecordedJournal | None = None
) -> tuple[RunExecutor, list[tuple[str, NodeStatus]]]:
    """Runs a spec of quick nodes to its end. Returns the drive and (node, status) of each settled visit, in order."""
    journal = journal or RecordedJournal()
    compiled = compile_spec(parse(raw), TYPES)
    executor = RunExecutor(
        RunInfo("run_test", "prj_test", 1, 0, inputs), compiled, journal=journal, head=NoHead(), resources={}
    )
    await executor.run()
    return executor, [(state.node_id, state.status) for state in journal.states if state.status.is_finished]
