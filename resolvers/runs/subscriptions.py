"""Generators of subscriptions. One that follows a run ends with it.

Closing a generator frees its listeners. They own no durable state, so a crash loses nothing: a
client reconnects with the last number that it has received.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import Event, NodeChange, NodeState, StatusChange
from engine.states import NodeStatus, RunStatus
from persistence.caller import Role
from persistence.events.run_transition import RunTransition
from persistence.feed.feed import Expired
from persistence.problems import ExpiredHistory, NotFound, invalid
from persistence.runs import node_states as nodes
from persistence.runs import run as runs
from persistence.runs.listing import RunFilter
from persistence.runs.run import Run
from persistence.workflows import drafts
from persistence.workflows.drafts import Draft
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.runs.queries import EventView, NodeView, NodeViews


@dataclass(frozen=True, slots=True)
class NodeUpdate:
    """A change of a run, or one node of its snapshot. `view` is None if only the run changed."""

    seq: int
    is_snapshot: bool
    run_id: str
    run_status: RunStatus
    progress: float
    view: NodeView | None


class RunProjection:
    """State of a run as a subscriber has seen it: status, progress and the status of each node."""

    def __init__(self, run: Run, states: list[NodeState]) -> None:
        self.run_id, self.seq, self.status = run.id, run.last_seq, run.status
        self.states = states
        self._statuses = {state.node_id: state.status for state in states}

    @property
    def progress(self) -> float:
        """Finished share of the nodes that this run can still reach, as the worker counts it."""
        if self.status is RunStatus.COMPLETED:
            return 1.0
        statuses = list(self._statuses.values())
        done = statuses.count(NodeStatus.COMPLETED) + statuses.count(NodeStatus.FAILED)
        return done / max(len(statuses) - statuses.count(NodeStatus.SKIPPED), 1)

    def apply(self, change: NodeChange | StatusChange) -> None:
        """Apply the data of one event."""
        if isinstance(change, StatusChange):
            self.status = change.status
        else:
            self._statuses[change.state.node_id] = change.state.status


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
    projection = await _projection(context, run_id, after, with_values=with_values)
    views = await NodeViews.of(context, run_id)
    if not after:
        for update in _snapshot(projection, views):
            yield update
    async with aclosing(context.feed.follow(run_id, projection.seq, with_values=with_values)) as events:
        async for event in events:
            if isinstance(event, Expired):
                projection = await _projection(context, run_id, None, with_values=with_values)
                for update in _snapshot(projection, views):
                    yield update
            elif event.seq > projection.seq and isinstance(event.data, NodeChange | StatusChange):
                projection.apply(event.data)
                yield _change(projection, views, event)


def _snapshot(projection: RunProjection, views: NodeViews) -> Iterator[NodeUpdate]:
    """Yield every node, in the order of their last changes.

    So a client that disconnects halfway can continue from the last number that it has received.
    """
    progress, status = projection.progress, projection.status
    states = sorted(projection.states, key=lambda state: state.seq)
    for number, state in enumerate(states, start=1):
        seq = projection.seq if number == len(states) else state.seq
        yield NodeUpdate(seq, True, projection.run_id, status, progress, views.view(state, is_live=True))


def _change(projection: RunProjection, views: NodeViews, event: Event) -> NodeUpdate:
    data = event.data
    view = views.view(data.state, is_live=True) if isinstance(data, NodeChange) else None
    return NodeUpdate(event.seq, False, projection.run_id, projection.status, projection.progress, view)


async def _projection(context: Context, run_id: str, seq: int | None, *, with_values: bool) -> RunProjection:
    """Read run and nodes in one database snapshot: their state now, or after the event `seq`.

    Raises NotFound. Raises ExpiredHistory, unless the client has received the last event.
    """
    async with context.database.begin() as connection:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        run = await runs.get(connection, context.caller, run_id)
        if run is None:
            raise NotFound(run_id)
        if run.history_expired_at is not None and seq != run.last_seq:
            raise ExpiredHistory(run_id, run.history_expired_at)
        if seq is None:
            states = (await nodes.states(connection, context.caller, [run_id]))[run_id]
            if with_values:
                states = await nodes.with_small_values(connection, context.caller, run_id, states)
            return RunProjection(run, states)
        _check_after(run, seq)
        return await _projection_at(connection, context, run, seq)


async def _projection_at(connection: AsyncConnection, context: Context, run: Run, seq: int) -> RunProjection:
    key = (run.id, seq)
    projection = RunProjection(run, (await nodes.states_at(connection, context.caller, [key]))[key])
    projection.seq, projection.status = seq, await runs.status_at(connection, run, seq)
    return projection


def _check_after(run: Run, seq: int) -> None:
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


async def run_events(
    context: Context, run_id: str, after: int, *, with_values: bool = False
) -> AsyncGenerator[EventView]:
    """Follow the events of a run after a number. Raises NotFound, Invalid."""
    async with context.database.connect() as connection:
        run = await runs.get(connection, context.caller, run_id)
    if run is None:
        raise NotFound(run_id)
    _check_after(run, after)
    views = await NodeViews.of(context, run_id)
    async with aclosing(context.feed.follow(run_id, after, with_values=with_values)) as events:
        async for event in events:
            yield views.event(event)


async def changed_runs(context: Context, project_id: str | None, where: RunFilter) -> AsyncGenerator[Run]:
    """Follow the runs of a list: each that is created or changed.

    A run that leaves the list is sent once more.
    """
    if project_id is not None:
        require(context.caller, Role.VIEWER, project_id)
    project_ids = [project_id] if project_id is not None else context.caller.projects

    def wants(transition: RunTransition) -> bool:
        return where.matches_status(transition.status) or where.matches_status(transition.previous)

    async with aclosing(context.feed.run_changes.watch(wants, *project_ids)) as changed:
        async for run in changed:
            if where.matches(run):
                yield run


async def draft_saves(context: Context, workflow_id: str) -> AsyncGenerator[Draft]:
    """Follow a draft: it is sent each time that its revision has risen. Raises NotFound."""
    revision = (await _draft(context, workflow_id)).revision
    async with aclosing(context.feed.draft_saves(workflow_id)) as saves:
        async for _ in saves:
            draft = await _draft(context, workflow_id)
            if draft.revision > revision:
                revision = draft.revision
                yield draft


async def _draft(context: Context, workflow_id: str) -> Draft:
    async with context.database.connect() as connection:
        return await drafts.get(connection, context.caller, workflow_id)
