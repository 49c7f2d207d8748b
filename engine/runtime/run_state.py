"""The state of a run in the memory of its worker: node records, node states and uncommitted events.

A crash loses nothing that matters: the next claim restores the state from the store.
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
    """The records and states of the nodes of one run.

    `total` is the number of nodes of the spec. `events` are the events of the next commit, in
    order.
    """

    def __init__(self, run_id: str, total: int) -> None:
        self.run_id, self.total = run_id, total
        self.records: dict[str, NodeRecord] = {}
        self.node_states: dict[str, NodeState] = {}
        self._changed: set[str] = set()
        """The nodes whose record has changed since the last `take_changes`."""
        self._before_skip: dict[str, NodeState] = {}
        """The states of skipped nodes after their latest visit, for `unskip`."""
        self.events: list[tuple[datetime, EventData]] = []
        # Maintained with each change: a new count for each superstep would cost time by graph size.
        self._count: Counter[NodeStatus] = Counter()

    def node_state(self, node_id: str, **changes: Any) -> NodeState:
        """Return the state of a node with some changes, without storing them."""
        state = self.node_states.get(node_id)
        if state is not None:
            return replace(state, **changes) if changes else state
        record = self.records.get(node_id)
        return NodeState(self.run_id, node_id, **{"visits": record.visits if record else 0, **changes})

    def evolve(self, node_id: str, **changes: Any) -> NodeState:
        """Change the state of a node without an event."""
        state = self.node_states[node_id] = self.node_state(node_id, **changes)
        return state

    def add_change(self, state: NodeState, at: datetime | None = None) -> None:
        """Set the state of a node, with an event in the next commit. `at` is now by default."""
        self.node_states[state.node_id] = state
        self.events.append((at or datetime.now(UTC), NodeChange(state)))

    def set_record(self, node_id: str, record: NodeRecord) -> None:
        before = self.records.get(node_id)
        if before is not None:
            self._count[before.status] -= 1
        self._count[record.status] += 1
        self.records[node_id] = record
        self._changed.add(node_id)
        if record.status is not NodeStatus.SKIPPED:
            self._before_skip.pop(node_id, None)

    def skip(self, node_id: str, round_: Round, *, has_event: bool = True) -> None:
        """Skip a node in a round. Without an event if the skip is undone at the same time."""
        record = (self.records.get(node_id) or NodeRecord(NodeStatus.IDLE)).skipped(round_)
        if has_event:
            if record.visited is not None and node_id in self.node_states:
                self._before_skip.setdefault(node_id, self.node_states[node_id])
            self.add_change(NodeState(self.run_id, node_id, NodeStatus.SKIPPED, visits=record.visits, progress=0.0))
        self.set_record(node_id, record)

    def unskip(self, node_id: str) -> None:
        """Show the latest visit of a skipped node again, because its loop is over."""
        before = self._before_skip.pop(node_id, None)
        record = self.records[node_id].restored()
        self.set_record(node_id, record)
        shown = self.node_states.get(node_id)
        if shown is not None and shown.status is not NodeStatus.SKIPPED:
            return  # The skip had no event.
        result = {"progress": 1.0, "output": record.output, "has_output": True}
        self.add_change(before or NodeState(self.run_id, node_id, record.status, record.visits, **result))

    @property
    def has_changes(self) -> bool:
        """Whether records have changed since the last `take_changes`."""
        return bool(self._changed)

    def take_changes(self, *, is_full: bool) -> dict[str, list[Any]]:
        """Return the records that have changed since the last call, packed.

        Args:
            is_full: Return all records instead.
        """
        changed, self._changed = self._changed, set()
        return {node_id: self.records[node_id].pack() for node_id in (self.records if is_full else changed)}

    def take_events(self) -> list[tuple[datetime, EventData]]:
        """Return the events since the last commit, and forget them."""
        events, self.events = self.events, []
        return events

    @property
    def running_nodes(self) -> list[str]:
        """The nodes that were started beside the graph and are not settled."""
        return self._with_status(NodeStatus.RUNNING)

    @property
    def retrying_nodes(self) -> list[str]:
        """The nodes that wait for their next attempt."""
        return self._with_status(NodeStatus.RETRYING)

    @property
    def waiting_nodes(self) -> list[str]:
        """The nodes that wait for a time, an answer or another run."""
        return self._with_status(NodeStatus.WAITING)

    def _with_status(self, status: NodeStatus) -> list[str]:
        if not self._count[status]:
            return []
        return [node_id for node_id, record in self.records.items() if record.status is status]

    @property
    def progress(self) -> float:
        """The executed share of the nodes that the run can still reach, from 0.0 to 1.0."""
        executed = sum(self._count[status] for status in EXECUTED)
        return progress_from_counts(executed, self._count[NodeStatus.SKIPPED], self.total)

    def restore(self, records: dict[str, NodeRecord], usage: Mapping[str, Usage]) -> None:
        """Adopt the stored records, and the usage of unfinished visits by node.

        Call it before any other change.
        """
        self.records = records
        self._count = Counter(record.status for record in records.values())
        for node_id, used in usage.items():
            self.evolve(node_id, usage=used)
