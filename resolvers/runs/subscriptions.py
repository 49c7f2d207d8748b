"""What subscriptions send. Every generator ends with its run, and leaves nothing behind when its reader goes."""

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
from persistence.problems import NotFound, invalid
from persistence.runs import node_states as nodes
from persistence.runs import run as runs
from persistence.runs.listing import RunFilter
from persistence.runs.run import Run
from persistence.workflows import drafts
from persistence.workflows.drafts import Draft
from resolvers.authorise import require
from resolvers.context import Context
from resolvers.runs.queries import EventView, Names, NodeView


@dataclass(frozen=True, slots=True)
class NodeUpdate:
    """One thing that changed in a run, or one node of its snapshot. `view` is None when only the run changed."""

    seq: int
    is_snapshot: bool
    run_id: str
    run_status: RunStatus
    progress: float
    view: NodeView | None


class RunProjection:
    """A run as its reader has seen it so far: enough to say with each change how far the whole run is."""

    def __init__(self, run: Run, states: list[NodeState]) -> None:
        self.run_id, self.seq, self.status = run.id, run.last_seq, run.status
        self.states = states
        self._statuses = {state.node_id: state.status for state in states}

    @property
    def progress(self) -> float:
        """The part of the nodes that this run can still reach which is settled, as the worker counts it."""
        if self.status is RunStatus.COMPLETED:
            return 1.0
        statuses = list(self._statuses.values())
        done = statuses.count(NodeStatus.COMPLETED) + statuses.count(NodeStatus.FAILED)
        return done / max(len(statuses) - statuses.count(NodeStatus.SKIPPED), 1)

    def apply(self, what: NodeChange | StatusChange) -> None:
        if isinstance(what, StatusChange):
            self.status = what.status
        else:
            self._statuses[what.state.node_id] = what.state.status


async def node_states(
    context: Context, run_id: str, after: int | None, *, with_values: bool = False
) -> AsyncGenerator[NodeUpdate]:
    """Without `after`: every node as it stands, then every change. With it: every change after that number.

    `after: 0` is a reader that has seen nothing: it gets every node IDLE, and then the whole history. `with_values` says
    that inputs and outputs will be asked for: small ones are read along, instead of one by one.
    """
    picture = await _picture(context, run_id, after, with_values=with_values)
    names = await Names.of(context, run_id)
    if not after:
        for update in _snapshot(picture, names):
            yield update
    async with aclosing(context.feed.follow(run_id, picture.seq, with_values=with_values)) as events:
        async for event in events:
            if isinstance(event, Expired):
                picture = await _picture(context, run_id, None, with_values=with_values)
                for update in _snapshot(picture, names):
                    yield update
            elif event.seq > picture.seq and isinstance(event.data, NodeChange | StatusChange):
                picture.apply(event.data)
                yield _change(picture, names, event)


def _snapshot(picture: RunProjection, names: Names) -> Iterator[NodeUpdate]:
    """In the order of the nodes' last changes: a reader cut off in the middle can go on from what it has seen."""
    progress, status = picture.progress, picture.status
    states = sorted(picture.states, key=lambda state: state.seq)
    for place, state in enumerate(states, start=1):
        seq = picture.seq if place == len(states) else state.seq
        yield NodeUpdate(seq, True, picture.run_id, status, progress, names.view(state, is_live=True))


def _change(picture: RunProjection, names: Names, event: Event) -> NodeUpdate:
    what = event.data
    view = names.view(what.state, is_live=True) if isinstance(what, NodeChange) else None
    return NodeUpdate(event.seq, False, picture.run_id, picture.status, picture.progress, view)


async def _picture(context: Context, run_id: str, seq: int | None, *, with_values: bool) -> RunProjection:
    """Run and nodes of one moment: now, or after the event `seq`. Raises NotFound."""
    async with context.database.begin() as connection:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        run = await runs.get(connection, context.caller, run_id)
        if run is None:
            raise NotFound(run_id)
        if seq is None:
            states = (await nodes.states(connection, context.caller, [run_id]))[run_id]
            if with_values:
                states = await nodes.with_small_values(connection, context.caller, run_id, states)
            return RunProjection(run, states)
        _check_seen(run, seq)
        return await _picture_at(connection, context, run, seq)


async def _picture_at(connection: AsyncConnection, context: Context, run: Run, seq: int) -> RunProjection:
    place = (run.id, seq)
    picture = RunProjection(run, (await nodes.states_at(connection, context.caller, [place]))[place])
    picture.seq, picture.status = seq, await runs.status_at(connection, run, seq)
    return picture


def _check_seen(run: Run, seq: int) -> None:
    """Whether a reader can have seen the event `seq`: what is sent is committed. Raises Invalid."""
    if seq < 0:
        raise invalid("after", "OUT_OF_RANGE", f"must be the number of an event, or 0, is {seq}")
    if seq > run.last_seq:
        message = (
            f"is {seq}, but the last event of the run is {run.last_seq}: reload the run, and go on from its lastSeq"
        )
        raise invalid("after", "OUT_OF_RANGE", message)


async def run_events(
    context: Context, run_id: str, after: int, *, with_values: bool = False
) -> AsyncGenerator[EventView]:
    async with context.database.connect() as connection:
        run = await runs.get(connection, context.caller, run_id)
    if run is None:
        raise NotFound(run_id)
    _check_seen(run, after)
    names = await Names.of(context, run_id)
    async with aclosing(context.feed.follow(run_id, after, with_values=with_values)) as events:
        async for event in events:
            yield names.event(event)


async def changed_runs(context: Context, project_id: str | None, where: RunFilter) -> AsyncGenerator[Run]:
    """Runs in the list that are created or change; one that leaves the list is sent once more."""
    if project_id is not None:
        require(context.caller, Role.VIEWER, project_id)
    watched = [project_id] if project_id is not None else context.caller.projects

    def wants(transition: RunTransition) -> bool:
        return where.matches_status(transition.status) or where.matches_status(transition.previous)

    async with aclosing(context.feed.run_changes.watch(wants, *watched)) as changed:
        async for run in changed:
            if where.matches(run):
                yield run


async def draft_saves(context: Context, workflow_id: str) -> AsyncGenerator[Draft]:
    """The draft whenever its revision has risen. Raises NotFound."""
    seen = (await _draft(context, workflow_id)).revision
    async with aclosing(context.feed.draft_saves(workflow_id)) as saves:
        async for _ in saves:
            draft = await _draft(context, workflow_id)
            if draft.revision > seen:
                seen = draft.revision
                yield draft


async def _draft(context: Context, workflow_id: str) -> Draft:
    async with context.database.connect() as connection:
        return await drafts.get(connection, context.caller, workflow_id)
