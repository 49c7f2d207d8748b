"""Generators of subscriptions. One that follows a run ends with it.

Closing a generator frees its listeners. They own no durable state, so a crash loses nothing: a
client reconnects with the last number that it has received.
"""

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from engine.events import CheckpointSaved, EdgeState, Event, LiveDelta, NodeChange, StatusChange
from engine.isolation import suspension
from engine.states import EventType, RunStatus
from persistence.events.run_transition import RunTransition
from persistence.feed.feed import Expired
from persistence.problems import ExpiredHistory, NotFound
from persistence.runs import run as runs
from persistence.runs.run import Run
from persistence.runs.run_filter import RunFilter
from persistence.workflows import drafts
from persistence.workflows.drafts import Draft
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.permissions import SUBSCRIPTIONS
from resolvers.runs.projection import RunProjection, check_after, read_projection
from resolvers.runs.queries import DerivedEvent, EdgeChange, EventView, NodeView, NodeViews, ProgressChange

MIN_PROGRESS = 0.005
"""The least change of a run's progress that `run_updates` sends: about 200 messages for a run."""


@dataclass(frozen=True, slots=True)
class NodeUpdate:
    """A change of a run, or one node of its snapshot. `view` is None if only the run changed."""

    seq: int
    is_snapshot: bool
    run_id: str
    run_status: RunStatus
    run_message: str | None
    progress: float
    view: NodeView | None

    def as_run(self, run: Run) -> Run:
        """Return the run, read now, as of this update."""
        return runs.as_of(run, self.seq, self.run_status, self.run_message, self.progress)


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The whole state of a run after the event `seq`."""

    seq: int
    run: Run
    node_states: list[NodeView]
    edge_states: list[EdgeState]


async def node_states(
    context: Context, run_id: str, after: int | None, *, with_values: bool = False
) -> AsyncGenerator[NodeUpdate]:
    """Follow the node states of a run.

    Args:
        context: The caller and the stores.
        run_id: The run to follow.
        after: The last event number that the client has received; every later change is sent.
            None: the current state of every node is sent first. 0: every node is sent as IDLE,
            then the whole history.
        with_values: Whether the client selects inputs or outputs. Small ones are then read with
            the events instead of one by one.

    Raises:
        NotFound: The run does not exist or is hidden from the caller.
        ExpiredHistory: Retention has deleted events that the client has not received.
        Invalid: `after` is negative, or higher than the last event of the run.
    """
    projection = await read_projection(context, run_id, after, with_values=with_values)
    if not after:
        for update in _snapshot(projection):
            yield update
    async with aclosing(context.feed.follow(run_id, projection.seq, with_values=with_values)) as events:
        async for event in events:
            if isinstance(event, Expired):
                projection = await read_projection(context, run_id, None, with_values=with_values)
                for update in _snapshot(projection):
                    yield update
            elif event.seq > projection.seq and isinstance(event.data, NodeChange | StatusChange):
                await suspension.call(projection.apply, event.seq, event.data)
                yield _change(projection, event.data)


def _snapshot(projection: RunProjection) -> Iterator[NodeUpdate]:
    """Yield every node, in the order of their last changes.

    So a client that disconnects halfway can continue from the last number that it has received.
    """
    states = sorted(projection.states, key=lambda state: state.seq)
    for number, state in enumerate(states, start=1):
        seq = projection.seq if number == len(states) else state.seq
        yield _update(projection, seq, projection.views.view(state, is_live=True), is_snapshot=True)


def _change(projection: RunProjection, data: NodeChange | StatusChange) -> NodeUpdate:
    view = projection.views.view(data.state, is_live=True) if isinstance(data, NodeChange) else None
    return _update(projection, projection.seq, view, is_snapshot=False)


def _update(projection: RunProjection, seq: int, view: NodeView | None, *, is_snapshot: bool) -> NodeUpdate:
    status, message, progress = projection.status, projection.message, projection.progress
    return NodeUpdate(seq, is_snapshot, projection.run.id, status, message, progress, view)


async def run_updates(
    context: Context,
    run_id: str,
    after: int | None,
    types: Collection[EventType] | None = None,
    *,
    with_values: bool = False,
) -> AsyncGenerator[RunSnapshot | EventView]:
    """Follow everything that a live view of a run shows.

    Args:
        context: The caller and the stores.
        run_id: The run to follow.
        after: The last event number that the client has received; every later event is sent. None:
            the current state is sent first, as one snapshot. 0: the state before the first event,
            then the whole history.
        types: The types of events to send; None for all. Snapshots, and the report that history has
            expired, are always sent.
        with_values: Whether the client selects inputs or outputs; see `node_states`.

    Yields:
        Numbered events in order. What follows from an event, the states of edges and the progress,
        is sent behind it with the same number. Text has the number of the event before it.

    Raises:
        NotFound: The run does not exist or is hidden from the caller.
        Invalid: `after` is negative, or higher than the last event of the run.
    """
    wanted = frozenset(EventType) if types is None else frozenset(types)
    try:
        projection = await read_projection(context, run_id, after, with_values=with_values)
    except ExpiredHistory as error:
        run = await context.loaders.run.load(run_id)
        last_seq = 0 if run is None else run.last_seq
        yield EventView(Expired(run_id, after or 0, last_seq + 1, error.at))
        return
    if not after:
        yield await suspension.call(_run_snapshot, projection)
    reported = projection.progress
    async with aclosing(context.feed.follow(run_id, projection.seq, with_values=with_values)) as events:
        async for event in events:
            if isinstance(event, Expired):
                yield projection.views.event(event)
                projection = await read_projection(context, run_id, None, with_values=with_values)
                reported = projection.progress
                yield await suspension.call(_run_snapshot, projection)
            elif isinstance(event, LiveDelta):
                if EventType.OUTPUT_DELTA in wanted and event.seq >= projection.seq:
                    yield projection.views.event(event)
            elif event.seq > projection.seq:
                derived = _event_and_derived(projection, event, reported)
                for type, view in await suspension.call(list, derived):
                    if type is EventType.PROGRESS:
                        reported = projection.progress
                    if type in wanted:
                        yield view


def _run_snapshot(projection: RunProjection) -> RunSnapshot:
    views = [projection.views.view(state, is_live=True) for state in projection.states]
    return RunSnapshot(projection.seq, projection.as_run(projection.run), views, projection.edge_states)


def _event_and_derived(
    projection: RunProjection, event: Event, reported: float
) -> Iterator[tuple[EventType, EventView]]:
    """Yield an event, and what follows from it: states of edges, and progress if it differs."""
    edges: list[EdgeChange] = []
    if isinstance(event.data, NodeChange | StatusChange):
        edges = projection.apply_with_edges(event.seq, event.data)
    projection.seq = event.seq
    yield event.data.type, projection.views.event(event)
    for edge in edges:
        yield EventType.EDGE_STATE, _derived(event, edge)
    change = abs(projection.progress - reported)
    if change >= MIN_PROGRESS or (change and projection.status.is_terminal):
        yield EventType.PROGRESS, _derived(event, ProgressChange(projection.progress))


def _derived(event: Event, data: EdgeChange | ProgressChange) -> EventView:
    return EventView(DerivedEvent(event.run_id, event.seq, event.at, data))


async def run_events(
    context: Context, run_id: str, after: int, *, with_values: bool = False
) -> AsyncGenerator[EventView]:
    """Follow the events of a run after a number. Raises NotFound, Invalid."""
    async with context.read() as connection:
        run = await runs.get(connection, context.caller, run_id)
    if run is None:
        raise NotFound(run_id)
    check_after(run, after)
    views = await NodeViews.of(context, run_id)
    async with aclosing(context.feed.follow(run_id, after, with_values=with_values)) as events:
        async for event in events:
            yield views.event(event)


def saved_checkpoints(updates: Iterable[object]) -> list[str]:
    """Return the ids of the checkpoints that were saved in these updates."""
    events = (update.event for update in updates if isinstance(update, EventView))
    return [
        event.data.checkpoint_id
        for event in events
        if isinstance(event, Event) and isinstance(event.data, CheckpointSaved)
    ]


async def changed_runs(context: Context, project_id: str | None, where: RunFilter) -> AsyncGenerator[Run]:
    """Follow the runs of a list: each that is created or changed.

    A run that leaves the list is sent once more.

    Raises Invalid for a filter that is out of range.
    """
    where.check()
    if project_id is not None:
        require(context.caller, SUBSCRIPTIONS["runs"], project_id)
    project_ids = [project_id] if project_id is not None else context.caller.projects

    def wants(transition: RunTransition) -> bool:
        return where.matches_status(transition.status) or where.matches_status(transition.previous)

    async with aclosing(context.feed.run_changes.watch(wants, *project_ids)) as changed:
        async for run in changed:
            if where.matches(run, await _workflow_name(context, where, run)):
                yield run


async def _workflow_name(context: Context, where: RunFilter, run: Run) -> str:
    """Return the name of the workflow of a run; empty if the filter does not need it."""
    if where.search is None or run.workflow_id is None:
        return ""
    workflow = await context.loaders.workflow.load(run.workflow_id)
    return "" if workflow is None else workflow.name


async def draft_saves(context: Context, workflow_id: str) -> AsyncGenerator[Draft]:
    """Follow a draft: it is sent each time that its revision has risen, until its workflow is deleted.

    Raises NotFound.
    """
    revision = (await _draft(context, workflow_id)).revision
    async with aclosing(context.feed.draft_saves(workflow_id)) as saves:
        async for _ in saves:
            try:
                draft = await _draft(context, workflow_id)
            except NotFound:
                return
            if draft.revision > revision:
                revision = draft.revision
                yield draft


async def _draft(context: Context, workflow_id: str) -> Draft:
    async with context.read() as connection:
        return await drafts.get(connection, context.caller, workflow_id)
