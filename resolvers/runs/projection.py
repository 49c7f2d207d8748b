"""`RunProjection`: a run as one subscriber has seen it, kept up to date with each event.

It is memory of one subscription and owns nothing durable: a client that reconnects gets a new one,
read at the number that it has seen.
"""

from collections.abc import Collection, Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import EdgeState, NodeChange, NodeState, StatusChange
from engine.graph.edge_states import edge_states
from engine.spec.model import OnError
from engine.states import NodeStatus, ProgressCounter, RunStatus
from persistence.problems import ExpiredHistory, NotFound, invalid
from persistence.runs import node_states as nodes
from persistence.runs import run as runs
from persistence.runs.node_states import VersionGraph
from persistence.runs.run import Run
from resolvers.context import Context
from resolvers.runs.queries import EdgeChange, NodeViews, all_edge_states, start_edges


class RunProjection:
    """Status, progress and states of a run after the event `seq`."""

    def __init__(self, run: Run, states: list[NodeState], graph: VersionGraph) -> None:
        self.run, self.graph = run, graph
        self.seq, self.status, self.message = run.last_seq, run.status, run.status_message
        self.views = NodeViews(graph.by_id)
        self._counter = ProgressCounter(len(states))
        self._states = {state.node_id: state for state in states}
        self._edges: dict[str, list[EdgeState]] = {}
        """The states of outgoing edges by node, of the nodes that have changed since the beginning."""
        self._has_started = any(state.seq for state in states)
        for state in states:
            self._count(state)

    @property
    def progress(self) -> float:
        """The progress of the run, as the worker counts it."""
        return 1.0 if self.status is RunStatus.COMPLETED else self._counter.value

    @property
    def states(self) -> Collection[NodeState]:
        """The state of every node at the beginning, in the order of the spec."""
        return self._states.values()

    @property
    def edge_states(self) -> list[EdgeState]:
        """The state of every edge at the beginning, in the order of the spec."""
        return all_edge_states(self.graph, self.run, self.states)

    def as_run(self, run: Run) -> Run:
        """Return a run, read now, as of this projection."""
        return runs.as_of(run, self.seq, self.status, self.message, self.progress)

    def apply(self, seq: int, change: NodeChange | StatusChange) -> None:
        """Apply the data of the event `seq`."""
        self.seq = seq
        if isinstance(change, StatusChange):
            self.status, self.message = change.status, change.message or None
        else:
            self._count(change.state)

    def apply_with_edges(self, seq: int, change: NodeChange | StatusChange) -> list[EdgeChange]:
        """Apply the data of the event `seq`. Return the edges whose state it has changed."""
        self.apply(seq, change)
        return [] if isinstance(change, StatusChange) else [*self._begin(), *self._change_edges(change.state)]

    def _begin(self) -> Iterable[EdgeChange]:
        """Return the edges from `__start__` with the first change of a node."""
        if self._has_started:
            return ()
        self._has_started = True
        return [EdgeChange(edge, None) for edge in start_edges(self.graph, self.run, True)]

    def _change_edges(self, state: NodeState) -> list[EdgeChange]:
        before = self._edges.get(state.node_id)
        if before is None:
            before = self._edges_of(self._states[state.node_id]) if state.node_id in self._states else []
        self._edges[state.node_id] = after = self._edges_of(state)
        return [EdgeChange(edge, state.node_id) for edge in after if edge not in before]

    def _edges_of(self, state: NodeState) -> list[EdgeState]:
        name = self.graph.by_id.get(state.node_id)
        return [] if name is None else edge_states(name.out, state, name.on_error)

    def _count(self, state: NodeState) -> None:
        name = self.graph.by_id.get(state.node_id)
        ends_run = name is not None and name.on_error is OnError.FAIL
        if state.status is NodeStatus.CANCELLED:
            ends_run = not state.is_superfluous
        self._counter.set(state.node_id, state.status, state.progress, ends_run=ends_run)


async def read_projection(context: Context, run_id: str, seq: int | None, *, with_values: bool) -> RunProjection:
    """Read run and nodes in one database snapshot: their state now, or after the event `seq`.

    Raises:
        NotFound: The run does not exist or is hidden from the caller.
        ExpiredHistory: Retention has deleted the history, unless `seq` is the last event.
        Invalid: The run has no event `seq`.
    """
    async with context.read(is_snapshot=True) as connection:
        run = await runs.get(connection, context.caller, run_id)
        if run is None:
            raise NotFound(run_id)
        if run.history_expired_at is not None and seq != run.last_seq:
            raise ExpiredHistory(run_id, run.history_expired_at)
        graph = (await nodes.graphs(connection, context.caller, [run_id]))[run_id]
        if graph.has_start_conditions:
            run = await runs.with_values(connection, run)
        if seq is not None:
            check_after(run, seq)
            return await _projection_at(connection, context, run, graph, seq)
        states = (await nodes.states(connection, context.caller, [run_id]))[run_id]
        if with_values:
            states = await nodes.with_small_values(connection, context.caller, run_id, states)
        return RunProjection(run, states, graph)


async def _projection_at(
    connection: AsyncConnection, context: Context, run: Run, graph: VersionGraph, seq: int
) -> RunProjection:
    key = (run.id, seq)
    projection = RunProjection(run, (await nodes.states_at(connection, context.caller, [key]))[key], graph)
    projection.seq, (projection.status, projection.message) = seq, await runs.status_at(connection, run, seq)
    return projection


def check_after(run: Run, seq: int) -> None:
    """Raise Invalid if the run has no event `seq`.

    Only committed events are sent, so no client has seen it.
    """
    if seq < 0:
        raise invalid("after", "OUT_OF_RANGE", f"must be the number of an event, or 0, is {seq}")
    if seq > run.last_seq:
        message = (
            f"is {seq}, but the last event of the run is {run.last_seq}: reload the run, and continue from its lastSeq"
        )
        raise invalid("after", "OUT_OF_RANGE", message)
