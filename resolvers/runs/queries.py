"""Read runs, node states and checkpoints, and compute values from them.

Nothing here writes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import Any, Literal

from engine.events import EdgeState, Event, LiveDelta, NodeChange, NodeState
from engine.expressions import evaluator
from engine.graph.edge_states import SpecEdge, edge_states
from engine.isolation import suspension
from engine.isolation.loop_share import in_turns, loop_share
from engine.runtime.node_context import node_scope, scope_of
from engine.states import WITHOUT_OUTPUT, EdgeStatus, NodeStatus, RunAction, RunSource, RunStatus, WaitKind
from engine.types import JSON
from persistence.db.ids import Prefix
from persistence.db.json_text import LARGE_VALUE, JsonText, LargeValue
from persistence.db.pagination import Page, PageArguments
from persistence.db.response_budget import reserve, reserve_rows
from persistence.events.history import Checkpoint
from persistence.feed.feed import Expired
from persistence.problems import NotFound
from persistence.runs import listing
from persistence.runs import node_states as nodes
from persistence.runs.node_states import NodeName, VersionGraph
from persistence.runs.related import RelatedRunsQuery
from persistence.runs.run import Run
from persistence.runs.run_filter import RunFilter
from persistence.runs.run_order import NEWEST_FIRST, RunOrder
from persistence.runs.waits import ANSWERABLE, Wait
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import QUERIES
from resolvers.runs.large_values import reading_large, with_start_values, with_values

EMPTY_PAGE: Page[Any] = Page([], [], False, False)
NO_GRAPH = VersionGraph(())
ACTIONS: dict[RunStatus, tuple[RunAction, ...]] = {
    RunStatus.PENDING: (RunAction.EXECUTE, RunAction.CANCEL),
    RunStatus.QUEUED: (RunAction.CANCEL, RunAction.PAUSE),
    RunStatus.RUNNING: (RunAction.CANCEL, RunAction.PAUSE),
    RunStatus.PAUSING: (RunAction.CANCEL,),
    RunStatus.PAUSED: (RunAction.CANCEL, RunAction.RESUME, RunAction.STEP),
    RunStatus.WAITING: (RunAction.CANCEL, RunAction.PAUSE),
    RunStatus.CANCELLING: (),
    RunStatus.COMPLETED: (RunAction.RETRY,),
    RunStatus.FAILED: (RunAction.RETRY,),
    RunStatus.CANCELLED: (RunAction.RETRY,),
}
"""Actions that a status accepts. `available_actions` adds ANSWER and FORK, which need a
question or a checkpoint."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """The state of a node with its name and type.

    All live views of a node have the same id. The id of a historical view ends with `@seq`, so
    that a client cache that merges by id never overwrites a live state with an old one.
    """

    state: NodeState
    name: NodeName
    is_live: bool

    @property
    def id(self) -> str:
        live = f"{self.state.run_id}/{self.state.node_id}"
        return live if self.is_live else f"{live}@{self.state.seq}"

    @property
    def duration_ms(self) -> float | None:
        return duration_ms(self.state.started_at, self.state.completed_at)

    @property
    def edge_states(self) -> list[EdgeState]:
        """The states of the outgoing edges of the node."""
        return edge_states(self.name.out, self.state, self.name.on_error)

    label, type = property(attrgetter("name.label")), property(attrgetter("name.type"))


# Strawberry reads these by name for every node of every run of a page. `attrgetter` is faster than
# a Python function, and a new field of `NodeState` needs no code here.
for _field in NodeState.__slots__:
    setattr(NodeView, _field, property(attrgetter(f"state.{_field}")))


@dataclass(frozen=True, slots=True)
class EdgeChange:
    """The state of an edge changed. `node_id` is the source of the edge; None for `__start__`."""

    edge: EdgeState
    node_id: str | None


@dataclass(frozen=True, slots=True)
class ProgressChange:
    """The progress of the run changed."""

    progress: float
    node_id: None = None


@dataclass(frozen=True, slots=True)
class DerivedEvent:
    """A change that follows from the numbered event `seq`. It is computed, not stored."""

    run_id: str
    seq: int
    at: datetime
    data: EdgeChange | ProgressChange


@dataclass(frozen=True, slots=True)
class EventView:
    """An event as a client sees it; `node` is set for a change of a node."""

    event: Event | Expired | LiveDelta | DerivedEvent
    node: NodeView | None = None


class NodeViews:
    """Creates the views of one run's nodes and events. The names of the nodes are loaded once."""

    def __init__(self, names: Mapping[str, NodeName]) -> None:
        self._names = names

    @classmethod
    async def of(cls, context: Context, run_id: str) -> "NodeViews":
        """Load the names of the nodes of a run."""
        graph = await context.loaders.graphs.load(run_id)
        return cls({} if graph is None else graph.by_id)

    def view(self, state: NodeState, *, is_live: bool) -> NodeView:
        name = self._names.get(state.node_id) or NodeName(state.node_id, state.node_id, "unknown")
        return NodeView(state, name, is_live)

    def event(self, event: Event | Expired | LiveDelta) -> EventView:
        if isinstance(event, Event) and isinstance(event.data, NodeChange):
            return EventView(event, self.view(event.data.state, is_live=False))
        return EventView(event)


async def run(context: Context, run_id: str) -> Run | None:
    return await context.loaders.run.load(run_id)


async def run_page(
    context: Context,
    arguments: PageArguments,
    *,
    project_id: str | None = None,
    where: RunFilter | None = None,
    order: RunOrder = NEWEST_FIRST,
) -> Page[Run]:
    """Return a page of runs.

    Raises NotFound for a project that the caller may not see.
    """
    where = where or RunFilter()
    where.check()
    if project_id is not None:
        require(context.caller, QUERIES["runs"], project_id)
    range_ = order.checked(arguments)
    async with context.read() as connection:
        return await listing.page(connection, context.caller, range_, project_id=project_id, where=where)


async def node_views(context: Context, run_id: str) -> list[NodeView]:
    """Return the current state of every node, in the order of the spec. Raises Limit."""
    graph = await _graph(context, run_id)
    reserve(len(graph.nodes))
    views, states = NodeViews(graph.by_id), await _states(context, graph, run_id)
    return [views.view(state, is_live=True) async for state in in_turns(states)]


async def node_view(context: Context, run_id: str, node_id: str) -> NodeView | None:
    """Return the current state of one node. Raises Limit."""
    graph = await _graph(context, run_id)
    views, states = NodeViews(graph.by_id), await _states(context, graph, run_id)
    return next((views.view(state, is_live=True) for state in states if state.node_id == node_id), None)


async def node_view_at(context: Context, run_id: str, node_id: str, seq: int) -> NodeView | None:
    """Return the state of one node that began with the event `seq`. Raises Limit."""
    graph = await _graph(context, run_id)
    views, states = NodeViews(graph.by_id), await _states_at(context, graph, run_id, seq)
    return next(
        (views.view(state, is_live=False) for state in states if (state.node_id, state.seq) == (node_id, seq)), None
    )


async def current_node_views(context: Context, run_id: str) -> list[NodeView]:
    """Return the nodes that are RUNNING, RETRYING or WAITING, in the order of the spec."""
    graph = await _graph(context, run_id)
    views = NodeViews(graph.by_id)
    states = {state.node_id: state for state in await context.loaders.current_states.load(run_id) or []}
    return [views.view(states[node.id], is_live=True) for node in graph.nodes if node.id in states]


async def node_views_at(context: Context, run_id: str, seq: int) -> list[NodeView]:
    """Return the state of every node after the event `seq`, in the order of the spec. Raises Limit."""
    graph = await _graph(context, run_id)
    reserve(len(graph.nodes))
    views, states = NodeViews(graph.by_id), await _states_at(context, graph, run_id, seq)
    return [views.view(state, is_live=False) async for state in in_turns(states)]


async def _graph(context: Context, run_id: str) -> VersionGraph:
    return await context.loaders.graphs.load(run_id) or NO_GRAPH


async def _states(context: Context, graph: VersionGraph, run_id: str) -> list[NodeState]:
    """Read the current state of every node, if the budget of the response allows it. Raises Limit."""
    reserve_rows(run_id, len(graph.nodes))
    return await context.loaders.node_states.load(run_id) or []


async def _states_at(context: Context, graph: VersionGraph, run_id: str, seq: int) -> list[NodeState]:
    reserve_rows((run_id, seq), len(graph.nodes))
    return await context.loaders.node_states_at.load((run_id, seq)) or []


async def edge_states_of_run(context: Context, run: Run) -> list[EdgeState]:
    """Return the present state of every edge, in the order of the spec. Raises Limit."""
    graph = await _graph(context, run.id)
    return await _edge_states(context, graph, run, await _states(context, graph, run.id))


async def edge_states_at(context: Context, run_id: str, seq: int) -> list[EdgeState]:
    """Return the state of every edge after the event `seq`, in the order of the spec. Raises Limit."""
    run = await context.loaders.run.load(run_id)
    if run is None:
        return []
    graph = await _graph(context, run_id)
    return await _edge_states(context, graph, run, await _states_at(context, graph, run_id, seq))


async def _edge_states(context: Context, graph: VersionGraph, run: Run, states: Sequence[NodeState]) -> list[EdgeState]:
    if not states:
        return []
    reserve(len(graph.nodes))
    run = await with_start_values(context, graph, run)
    await loop_share().turn()
    return await suspension.call(all_edge_states, graph, run, states)


def all_edge_states(graph: VersionGraph, run: Run, states: Iterable[NodeState]) -> list[EdgeState]:
    """Return the state of every edge of a run, in the order of the spec."""
    by_id = {state.node_id: state for state in states}
    has_started = any(state.seq for state in by_id.values())
    numbered = list(zip((edge.index for edge in graph.starts), start_edges(graph, run, has_started), strict=True))
    for name in graph.nodes:
        out = edge_states(name.out, by_id.get(name.id) or NodeState(run.id, name.id), name.on_error)
        numbered += zip((edge.index for edge in name.out), out, strict=True)
    return [state for _, state in sorted(numbered, key=itemgetter(0))]


def start_edges(graph: VersionGraph, run: Run, has_started: bool) -> list[EdgeState]:
    """Return the states of the edges from `__start__`, whose conditions see only the input."""
    scope = scope_of(run.id, run.inputs, {}, ()) if graph.has_start_conditions else {}
    return [_start_edge(edge, scope, has_started) for edge in graph.starts]


def _start_edge(edge: SpecEdge, scope: dict[str, Any], has_started: bool) -> EdgeState:
    if not has_started:
        return EdgeState(edge.id, EdgeStatus.PENDING, 0)
    try:
        is_taken = edge.condition is None or evaluator.truthy(edge.condition, scope)
    except evaluator.ExpressionError:
        is_taken = False  # The run has failed with this error.
    return EdgeState(edge.id, EdgeStatus.TAKEN if is_taken else EdgeStatus.SKIPPED, int(is_taken))


async def node_value(context: Context, state: NodeState, name: Literal["input", "output"]) -> JSON | JsonText:
    """Return the input or the output of a node, loaded if the state does not hold them."""
    if state.output_seq is None:
        held: JSON = getattr(state, name)
        return held
    place = (state.run_id, state.output_seq)
    values = await context.loaders.values.load(place) or nodes.Values(None, None)
    value: JSON | LargeValue = getattr(values, name)
    if value is not LARGE_VALUE:
        return value
    async with reading_large(context) as connection:
        return await nodes.read_value(connection, context.caller, place, name)


async def estimated_completion(context: Context, run: Run) -> datetime | None:
    """Estimate the end from the median duration of earlier runs of the version.

    Returns None without such runs, and for a run that is neither QUEUED nor RUNNING.
    """
    if run.status not in (RunStatus.QUEUED, RunStatus.RUNNING):
        return None
    duration = await context.loaders.median_duration.load(run.version_id)
    if duration is None:
        return None
    now = datetime.now(UTC)
    return max((run.started_at or now) + duration, now)


def duration_ms(started_at: datetime | None, ended_at: datetime | None) -> float | None:
    """Return the milliseconds from start to end, or until now if there is no end.

    None if there is no start.
    """
    if started_at is None:
        return None
    return ((ended_at or datetime.now(UTC)) - started_at).total_seconds() * 1000


async def available_actions(context: Context, run: Run) -> list[RunAction]:
    """Return the actions that would be accepted now."""
    actions = list(ACTIONS[run.status])
    if any(wait.kind is WaitKind.INPUT for wait in await waits_of(context, run)):
        actions.append(RunAction.ANSWER)
    if await context.loaders.has_checkpoint.load(run.id):
        actions.append(RunAction.FORK)
    return actions


async def waits_of(context: Context, run: Run) -> list[Wait]:
    """Return the open waits of a run, oldest first. A finished run has none."""
    if run.status not in ANSWERABLE:
        return []
    return await context.loaders.waits.load(run.id) or []


async def derived_page(
    context: Context, run_id: str, arguments: PageArguments, *, source: list[RunSource] | None
) -> Page[Run]:
    """Return a page of the retries, forks and child runs of a run, newest first."""
    sources = None if source is None else tuple(source)
    query = RelatedRunsQuery(run_id, arguments.checked(Prefix.RUN), sources)
    return await context.loaders.derived.load(query) or EMPTY_PAGE


async def fork_page(context: Context, checkpoint_id: str, arguments: PageArguments) -> Page[Run]:
    """Return a page of the forks of a checkpoint, newest first."""
    query = RelatedRunsQuery(checkpoint_id, arguments.checked(Prefix.RUN))
    return await context.loaders.forks.load(query) or EMPTY_PAGE


async def checkpoint_page(context: Context, run_id: str, arguments: PageArguments) -> Page[Checkpoint]:
    query = RelatedRunsQuery(run_id, arguments.checked(Prefix.CHECKPOINT))
    return await context.loaders.checkpoints.load(query) or EMPTY_PAGE


async def checkpoint(context: Context, checkpoint_id: str, run_id: str | None = None) -> Checkpoint | None:
    """Return a checkpoint, or None if it belongs to another run than `run_id`."""
    row = await context.loaders.checkpoint.load(checkpoint_id)
    return row if row is not None and run_id in (None, row.run_id) else None


async def completed_at(context: Context, checkpoint: Checkpoint) -> list[str]:
    """Return the ids of the nodes that were COMPLETED at a checkpoint, in the order of the spec."""
    graph = await _graph(context, checkpoint.run_id)
    states = await _states_at(context, graph, checkpoint.run_id, checkpoint.seq)
    return [state.node_id for state in states if state.status is NodeStatus.COMPLETED]


async def state_at(context: Context, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the node outputs at a checkpoint, by node id. A skipped or cancelled node has none."""
    outputs, states = await _outputs_and_states(context, checkpoint)
    without = {state.node_id for state in states if state.status in WITHOUT_OUTPUT}
    return {node_id: output for node_id, output in outputs.items() if node_id not in without}


async def _outputs_and_states(context: Context, checkpoint: Checkpoint) -> tuple[dict[str, JSON], list[NodeState]]:
    """Return the latest output of each node at a checkpoint, and the states of the nodes."""
    place = (checkpoint.run_id, checkpoint.seq)
    states = await _states_at(context, await _graph(context, checkpoint.run_id), *place)
    return await context.loaders.outputs_at.load(place) or {}, states


async def scope_at(context: Context, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the names of expressions at a checkpoint, the same that a node would have seen."""
    run = await context.loaders.run.load(checkpoint.run_id)
    if run is None:
        raise NotFound(checkpoint.run_id)
    run = await with_values(context, run)
    outputs, states = await _outputs_and_states(context, checkpoint)
    nodes_by_id = {state.node_id: node_scope(state.status, outputs.get(state.node_id)) for state in states}
    return {**nodes_by_id, "input": run.inputs, "nodes": nodes_by_id, "run": {"id": run.id}}
