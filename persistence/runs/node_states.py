"""Node states and node outputs of runs, read for many runs at once. Written by the journal; never here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import ARRAY, FromClause, Integer, Text, cast, column, func, or_, select, text, true, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import NodeChange, NodeState
from engine.spec.model import Spec
from engine.spec.parser import parse
from engine.states import FINISHED, EventType, NodeStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.tables import events, node_outputs, node_states, runs, versions
from persistence.events import codec


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node as its version's spec names it."""

    id: str
    label: str
    type: str


@dataclass(frozen=True, slots=True)
class Values:
    """What one visit of a node was given and gave back."""

    input: JSON
    output: JSON


SMALL = f"coalesce(pg_column_size({{0}}.input), 0) + coalesce(pg_column_size({{0}}.output), 0) <= {4 * 1024}"
"""What is read along with states and events, as far as it is stored in so many bytes; the rest is read when asked for."""


class VersionNodes:
    """The nodes of versions, in the order of their specs. A version never changes, so what was read once is kept."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._known: dict[str, tuple[NodeName, ...]] = {}

    async def of(self, connection: AsyncConnection, version_ids: Iterable[str]) -> dict[str, tuple[NodeName, ...]]:
        wanted = set(version_ids)
        known = {version_id: self._known[version_id] for version_id in wanted & self._known.keys()}
        if missing := wanted - known.keys():
            found = await connection.execute(select(versions.c.id, versions.c.spec).where(versions.c.id.in_(missing)))
            for version_id, spec in found:
                known[version_id] = self._known[version_id] = _names(parse(spec))
        while len(self._known) > self._size:
            del self._known[next(iter(self._known))]
        return known


def _names(spec: Spec) -> tuple[NodeName, ...]:
    return tuple(NodeName(node.id, node.label or node.id, node.type) for node in spec.nodes)


version_nodes = VersionNodes()


async def names(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, tuple[NodeName, ...]]:
    """The nodes of each run, by run id."""
    found = await connection.execute(
        select(runs.c.id, runs.c.version_id).where(runs.c.id.in_(run_ids), runs.c.project_id.in_(caller.projects))
    )
    version_of = dict(found.all())
    by_version = await version_nodes.of(connection, version_of.values())
    return {run_id: by_version[version_id] for run_id, version_id in version_of.items()}


async def states(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, list[NodeState]]:
    """Every node of each run as it stands, in the order of the spec; one that nothing happened to yet is IDLE."""
    named = await names(connection, caller, run_ids)
    found = await connection.execute(_STATES.where(node_states.c.run_id.in_(named)))
    stored = {(row[0], row[1]): codec.node_state_of(row) for row in found}
    return {run_id: _with_idle(run_id, nodes, stored) for run_id, nodes in named.items()}


async def states_at(
    connection: AsyncConnection, caller: Caller, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[NodeState]]:
    """Every node of a run as it stood after the event `seq`, for each place (run id, seq)."""
    named = await names(connection, caller, list({run_id for run_id, _ in places}))
    seen = [place for place in places if place[0] in named]
    stored: dict[tuple[str, int], dict[tuple[str, str], NodeState]] = {place: {} for place in seen}
    at = _places(seen)
    last = (
        select(events.c.node_id, events.c.seq.label("told_seq"), events.c.body)
        .ext(distinct_on(events.c.node_id))
        .where(events.c.run_id == at.c.run_id, events.c.seq <= at.c.seq, events.c.type == EventType.NODE_STATE)
        .order_by(events.c.node_id, events.c.seq.desc())
    ).lateral("last")
    query = select(at, last).select_from(at.join(last, true()))
    for run_id, seq, node_id, told_seq, body in await connection.execute(query):
        change = codec.data_of(EventType.NODE_STATE, node_id, body, run_id, told_seq)
        if isinstance(change, NodeChange):
            stored[run_id, seq][run_id, node_id] = change.state
    return {place: _with_idle(place[0], named[place[0]], states) for place, states in stored.items()}


def _places(places: Sequence[tuple[str, int]]) -> FromClause:
    run_ids, numbers = [run_id for run_id, _ in places], [seq for _, seq in places]
    arrays = cast(run_ids, ARRAY(Text)), cast(numbers, ARRAY(Integer))
    return func.unnest(*arrays).table_valued(column("run_id", Text), column("seq", Integer), name="at").render_derived()


def _with_idle(run_id: str, nodes: Iterable[NodeName], stored: Mapping[tuple[str, str], NodeState]) -> list[NodeState]:
    return [stored.get((run_id, node.id)) or NodeState(run_id, node.id) for node in nodes]


async def unfinished(connection: AsyncConnection, run_id: str) -> list[NodeState]:
    """The nodes of a run whose stored status says that they are under way."""
    return (await unfinished_of_runs(connection, [run_id]))[run_id]


async def unfinished_of_runs(connection: AsyncConnection, run_ids: Sequence[str]) -> dict[str, list[NodeState]]:
    open_statuses = [status for status in NodeStatus if status not in FINISHED and status is not NodeStatus.IDLE]
    query = _STATES.where(node_states.c.run_id.in_(run_ids), node_states.c.status.in_(open_statuses))
    states: dict[str, list[NodeState]] = {run_id: [] for run_id in run_ids}
    for row in await connection.execute(query.order_by(node_states.c.run_id, node_states.c.node_id)):
        states[row[0]].append(codec.node_state_of(row))
    return states


def as_cancelled(state: NodeState) -> NodeState:
    now = datetime.now(UTC)
    return replace(state, status=NodeStatus.CANCELLED, output_seq=None, has_output=False, completed_at=now)


def as_interrupted(state: NodeState) -> NodeState:
    """A node whose worker let go of it in the middle."""
    message = "Interrupted; runs again on resume"
    return replace(state, status=NodeStatus.IDLE, message=message, output_seq=None, has_output=False)


async def values(
    connection: AsyncConnection, caller: Caller, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Values]:
    """Input and output stored at each place (run id, seq)."""
    table = node_outputs.c
    found = await connection.execute(
        select(table.run_id, table.seq, table.input, table.output)
        .join(runs, runs.c.id == table.run_id)
        .where(tuple_(table.run_id, table.seq).in_(places), runs.c.project_id.in_(caller.projects))
    )
    return {(run_id, seq): Values(given, gave) for run_id, seq, given, gave in found}


async def with_small_values(
    connection: AsyncConnection, caller: Caller, run_id: str, states: Sequence[NodeState]
) -> list[NodeState]:
    """The states of one run, with what their nodes were given and gave back where it is small."""
    table = node_outputs.alias("o")
    stored = [state.output_seq for state in states if state.output_seq is not None]
    found = await connection.execute(
        select(table.c.seq, table.c.input, table.c.output)
        .join(runs, runs.c.id == table.c.run_id)
        .where(table.c.run_id == run_id, table.c.seq.in_(stored), runs.c.project_id.in_(caller.projects))
        .where(text(SMALL.format("o")))
    )
    values = {seq: {"input": given, "output": gave, "output_seq": None} for seq, given, gave in found}
    return [replace(state, **values.get(state.output_seq, {})) for state in states]


async def outputs_at(connection: AsyncConnection, caller: Caller, run_id: str, seq: int) -> dict[str, JSON]:
    """Each node's latest output up to `seq`, by node id: the state at a checkpoint."""
    return (await all_outputs_at(connection, caller, [(run_id, seq)]))[run_id, seq]


async def all_outputs_at(
    connection: AsyncConnection, caller: Caller, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], dict[str, JSON]]:
    """The same for each place (run id, seq). What a rewind has taken back still stood before it."""
    table, at = node_outputs.c, _places(places)
    last = (
        select(table.node_id, table.output)
        .ext(distinct_on(table.node_id))
        .join(runs, runs.c.id == table.run_id)
        .where(
            table.run_id == at.c.run_id,
            table.seq <= at.c.seq,
            or_(table.superseded_seq.is_(None), table.superseded_seq > at.c.seq),
            table.output.is_not(None),
            runs.c.project_id.in_(caller.projects),
        )
        .order_by(table.node_id, table.seq.desc())
    ).lateral("last")
    found: dict[tuple[str, int], dict[str, JSON]] = {place: {} for place in places}
    for run_id, seq, node_id, output in await connection.execute(select(at, last).select_from(at.join(last, true()))):
        found[run_id, seq][node_id] = output
    return found


_STATES = select(*(node_states.c[column] for column in codec.NODE_STATE_ROW))
