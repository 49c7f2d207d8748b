"""A run's memory while a worker has it: slots, node states, and what has happened since the last commit.

All of it is rebuilt from the store at the next take-up; nothing here is needed for a run to survive a crash.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from engine.events import EventData, NodeChange, NodeState, Usage
from engine.graph.channels import NodeRecord
from engine.graph.plan import Round
from engine.states import EXECUTED, NodeStatus, progress_from_counts


class RunState:
    """`wave` holds what goes with the next commit, in order. Slots are shared with the graph's channel."""

    def __init__(self, run_id: str, total: int, slots: dict[str, NodeRecord]) -> None:
        self.run_id, self.total, self.slots = run_id, total, slots
        self.states: dict[str, NodeState] = {}
        self.wave: list[tuple[datetime, EventData]] = []
        # Kept as it changes: counting afresh would make a wave cost as much as the graph is big.
        self._count = Counter(slot.status for slot in slots.values())

    def state(self, node_id: str, **changes: Any) -> NodeState:
        """A node's state as it is, or as it would be with some changes."""
        found = self.states.get(node_id)
        if found is not None:
            return replace(found, **changes) if changes else found
        slot = self.slots.get(node_id)
        return NodeState(self.run_id, node_id, **{"visits": slot.visits if slot else 0, **changes})

    def evolve(self, node_id: str, **changes: Any) -> NodeState:
        """Changes a node's state without telling anybody yet."""
        state = self.states[node_id] = self.state(node_id, **changes)
        return state

    def note(self, state: NodeState, at: datetime | None = None) -> None:
        """A node's new state, to be committed with the wave."""
        self.states[state.node_id] = state
        self.wave.append((at or datetime.now(UTC), NodeChange(state)))

    def set_slot(self, node_id: str, slot: NodeRecord) -> dict[str, NodeRecord]:
        """Returns the write that tells the graph's channel."""
        before = self.slots.get(node_id)
        if before is not None:
            self._count[before.status] -= 1
        self._count[slot.status] += 1
        self.slots[node_id] = slot
        return {node_id: slot}

    def skip(self, node_id: str, round_: Round) -> dict[str, NodeRecord]:
        before = self.slots.get(node_id)
        visits = before.visits if before else 0
        self.note(NodeState(self.run_id, node_id, NodeStatus.SKIPPED, visits=visits, progress=0.0))
        return self.set_slot(node_id, NodeRecord(NodeStatus.SKIPPED, visits, round_, before.output if before else None))

    def take(self) -> list[tuple[datetime, EventData]]:
        """What happened since the last commit, handed over once."""
        wave, self.wave = self.wave, []
        return wave

    @property
    def running(self) -> list[str]:
        """Nodes launched and not settled."""
        return self._with(NodeStatus.RUNNING)

    @property
    def waiting(self) -> list[str]:
        """Nodes that wait for a moment or an answer."""
        return self._with(NodeStatus.WAITING)

    def _with(self, status: NodeStatus) -> list[str]:
        if not self._count[status]:
            return []
        return [node_id for node_id, slot in self.slots.items() if slot.status is status]

    @property
    def progress(self) -> float:
        """The part of the nodes that this run can still reach which is settled, 0.0 to 1.0."""
        executed = sum(self._count[status] for status in EXECUTED)
        return progress_from_counts(executed, self._count[NodeStatus.SKIPPED], self.total)

    def recall(self, slots: dict[str, NodeRecord], usage: Mapping[str, Usage]) -> None:
        """Takes over what the store remembers, before anything has happened here."""
        self.slots = slots
        self._count = Counter(slot.status for slot in slots.values())
        for node_id, taken in usage.items():
            self.evolve(node_id, usage=taken)
