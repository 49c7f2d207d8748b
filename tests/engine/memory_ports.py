"""The engine's ports kept in memory: for tests of what runs in which order, where no storage is the point."""

from collections.abc import Awaitable, Sequence
from typing import Any

from engine.events import NodeChange, NodeState, OutputDelta
from engine.graph.compiler import Write, compile_spec
from engine.nodes.registry import load_node_types
from engine.runtime.executor import Drive
from engine.runtime.ports import Entry, PendingWrite
from engine.runtime.run_info import RunFacts
from engine.spec.parser import parse
from engine.states import NodeStatus

TYPES = load_node_types()


class RecordedJournal:
    """Keeps entries in their order."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.deltas: list[OutputDelta] = []

    async def _landed(self) -> int:
        return sum(len(one.happenings) for one in self.entries)

    def commit(self, entry: Entry) -> Awaitable[int]:
        self.entries.append(entry)
        return self._landed()

    def post(self, entry: Entry) -> None:
        self.entries.append(entry)

    def stream(self, run_id: str, delta: OutputDelta) -> None:
        self.deltas.append(delta)

    @property
    def states(self) -> list[NodeState]:
        happened = [what for entry in self.entries for _, what in entry.happenings]
        return [what.state for what in happened if isinstance(what, NodeChange)]


class NoHead:
    """A run without checkpoints: quick nodes alone need none."""

    async def attach(self, drive: Drive) -> None:
        return None

    def detach(self, run_id: str) -> None:
        return None

    def enter(self, run_id: str, writes: Sequence[Write]) -> tuple[list[Write], list[PendingWrite]]:
        raise AssertionError("nothing is launched in these tests")


async def play(
    raw: dict[str, Any], inputs: Any = None, journal: RecordedJournal | None = None
) -> tuple[Drive, list[tuple[str, NodeStatus]]]:
    """Runs a spec of quick nodes to its end. Returns the drive and (node, status) of each settled visit, in order."""
    journal = journal or RecordedJournal()
    compiled = compile_spec(parse(raw), TYPES)
    drive = Drive(
        RunFacts("run_test", "prj_test", 1, 0, inputs), compiled, journal=journal, head=NoHead(), resources={}
    )
    await drive.run()
    return drive, [(state.node_id, state.status) for state in journal.states if state.status.is_settled]
