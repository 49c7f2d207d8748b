"""The state of a run in the memory of its worker: node records, node states and uncommitted events.

A crash loses nothing that matters: the next claim restores the state from the store.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from engine.events import EdgeVisits, EventData, NodeChange, NodeState
from engine.graph.channels import NodeRecord
from engine.graph.edge_states import edge_visits
from engine.graph.plan import PlanNode, Round
from engine.runtime.ports import AppendedMessage
from engine.states import EXECUTED, NodeStatus, ProgressCounter


class RunState:
    """The records and states of the nodes of one run.

    `total` is the number of nodes of the spec, and `nodes` are those of its plan. `events` are the
    events of the next commit, in order.
    """

    def __init__(self, run_id: str, total: int, nodes: Mapping[str, PlanNode] | None = None) -> None:
        self.run_id, self.total = run_id, total
        self._nodes = nodes or {}
        self.records: dict[str, NodeRecord] = {}
        self.node_states: dict[str, NodeState] = {}
        self._changed: set[str] = set()
        """The nodes whose record has changed since the last `take_changes`."""
        self._before_skip: dict[str, NodeState] = {}
        """The states of skipped nodes after their latest visit, for `unskip`."""
        self.events: list[tuple[datetime, EventData]] = []
        self.messages: list[AppendedMessage] = []
        """The messages of the next commit for the thread of the run."""
        # Maintained with each change: a new count for each superstep would cost time by graph size.
        self._count: Counter[NodeStatus] = Counter()
        self._progress = ProgressCounter(total)

    def node_state(self, node_id: str, **changes: Any) -> NodeState:
        """Return the state of a node with some changes, without storing them."""
        state = self.node_states.get(node_id)
        if state is not None:
            return replace(state, **changes) if changes else state
        record = self.records.get(node_id)
        return NodeState(self.run_id, node_id, **{"visits": record.visits if record else 0, **changes})

    def begun_visit(self, node_id: str, visits: int) -> NodeState | None:
        """Return the state of a node if this visit has begun and not ended."""
        state = self.node_states.get(node_id)
        return state if state is not None and state.visits == visits and state.status not in EXECUTED else None

    def visit_state(self, node_id: str, visits: int, started_at: datetime, **changes: Any) -> NodeState:
        """Return the state of a visit with some changes, without storing it.

        Args:
            node_id: The node.
            visits: The number of the visit.
            started_at: When the visit has begun, if it begins with this state.
            changes: Fields of the state.
        """
        before = self.begun_visit(node_id, visits)
        if before is not None:
            return replace(before, started_at=before.started_at or started_at, **changes)
        if "edges" not in changes:
            changes["edges"] = self.earlier_edges(node_id)
        return NodeState(self.run_id, node_id, visits=visits, started_at=started_at, **changes)

    def earlier_edges(self, node_id: str) -> tuple[EdgeVisits, ...] | None:
        """Return the edges that a node has taken so far, for a state of its next visit or skip."""
        state, node = self.node_states.get(node_id), self._nodes.get(node_id)
        if state is None or node is None or not state.visits:
            return None
        return tuple(edge_visits(node.out, state, node.spec.on_error).values()) or None

    def evolve(self, node_id: str, **changes: Any) -> NodeState:
        """Change the state of a node without an event."""
        state = self.node_states[node_id] = self.node_state(node_id, **changes)
        if "progress" in changes:
            self._progress.set(node_id, state.status, state.progress)
        return state

    def add_change(self, state: NodeState, at: datetime | None = None, *, ends_run: bool = False) -> None:
        """Set the state of a node, with an event in the next commit.

        Args:
            state: The new state.
            at: The time of the event; now by default.
            ends_run: Whether it is a failure that ends the run, or a cancel because the run ends.
        """
        self.node_states[state.node_id] = state
        self._progress.set(state.node_id, state.status, state.progress, ends_run=ends_run)
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
            edges = self.earlier_edges(node_id)
            self.add_change(NodeState(self.run_id, node_id, NodeStatus.SKIPPED, visits=record.visits, edges=edges))
        self.set_record(node_id, record)

    def unskip(self, node_id: str) -> None:
        """Show the latest visit of a skipped node again, because its loop is over."""
        before = self._before_skip.pop(node_id, None)
        record = self.records[node_id].restored()
        self.set_record(node_id, record)
        shown = self.node_states.get(node_id)
        if shown is not None and shown.status is not NodeStatus.SKIPPED:
            return  # The skip had no event.
        if before is None:
            before = self._restored_state(node_id, record, None if shown is None else shown.edges)
        elif before.output_seq is not None:  # An earlier claim stored it, and only the record has its output.
            before = replace(before, output=record.output, output_seq=None)
        self.add_change(before)

    def _restored_state(self, node_id: str, record: NodeRecord, edges: tuple[EdgeVisits, ...] | None) -> NodeState:
        """Return the state after the latest visit of a node, which an earlier claim has executed."""
        node, taken = self._nodes.get(node_id), {one.edge for one in edges or () if one.taken}
        ports = [edge.port for edge in node.out if edge.index in taken and edge.port] if node else []
        return NodeState(
            self.run_id,
            node_id,
            record.status,
            record.visits,
            progress=1.0 if record.status is NodeStatus.COMPLETED else 0.0,
            output=record.output,
            has_output=True,
            port=ports[0] if ports else None,
            edges=edges,
        )

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
        """The progress of the run, from 0.0 to 1.0; see ProgressCounter."""
        return self._progress.value

    def restore(
        self,
        records: dict[str, NodeRecord],
        states: Mapping[str, NodeState],
        before_skip: Mapping[str, NodeState],
    ) -> None:
        """Adopt the stored records, the stored states of some nodes, and those before a skip.

        Call it before any other change.
        """
        self.records = records
        self._count = Counter(record.status for record in records.values())
        self._progress = ProgressCounter(self.total, {name: record.status for name, record in records.items()})
        self.node_states, self._before_skip = dict(states), dict(before_skip)
        for node_id, state in states.items():
            if records[node_id].status not in EXECUTED:
                self._progress.set(node_id, records[node_id].status, state.progress)
