"""Reads node states and node outputs, for many runs at once.

The journal and `transition` write them.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, TypeVar

from cachetools import LRUCache
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    cast,
    column,
    func,
    or_,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import NodeChange, NodeState
from engine.graph.edge_states import SpecEdge
from engine.isolation.loop_share import in_turns
from engine.spec.model import START, OnError, Spec
from engine.spec.parser import parse
from engine.states import IN_PROGRESS, EventType, NodeStatus
from engine.types import JSON
from persistence.caller import Caller
from persistence.db.json_text import JsonText, LargeValue, small_json_column
from persistence.db.tables import events, node_outputs, node_states, runs, versions
from persistence.events import codec


@dataclass(frozen=True, slots=True)
class NodeName:
    """A node in the spec of its version: id, label, type, outgoing edges and error handling."""

    id: str
    label: str
    type: str
    out: tuple[SpecEdge, ...] = ()
    on_error: OnError = OnError.FAIL


@dataclass(frozen=True)
class VersionGraph:
    """The nodes of a version in the order of its spec, and the edges of its spec from `__start__`."""

    nodes: tuple[NodeName, ...]
    starts: tuple[SpecEdge, ...] = ()

    @cached_property
    def has_start_conditions(self) -> bool:
        """Whether the inputs of a run decide which nodes it begins with."""
        return any(edge.condition is not None for edge in self.starts)

    @cached_property
    def by_id(self) -> dict[str, NodeName]:
        """The nodes by id, once for all readers of the version. Not to be changed."""
        return {node.id: node for node in self.nodes}


@dataclass(frozen=True, slots=True)
class Values:
    """The input and the output of one visit of a node."""

    input: JSON | LargeValue
    output: JSON | LargeValue


SMALL = (
    f"coalesce(pg_column_size({{0}}.input), 0) + coalesce(pg_column_size({{0}}.output), 0) <= {4 * 1024} "
    f"AND coalesce(octet_length({{0}}.input::text), 0) + coalesce(octet_length({{0}}.output::text), 0) <= {32 * 1024}"
)
"""The SQL condition for values that are read together with states and events.

`{0}` is the alias of `node_outputs`. Larger values are read when a client asks for them. The first
sizes are the stored ones, after compression; a value that expands to much more is large too.
"""


MAX_ROWS = 2_000
"""Node states that one statement reads. More would occupy the event loop for too long."""
PlaceT = TypeVar("PlaceT", bound=Hashable)
VersionKey = tuple[str, int | None]
"""The id and the `layout_revision` of a version: only its layout and labels ever change."""


class VersionGraphs:
    """A cache of the graphs of versions."""

    def __init__(self, size: int = 256) -> None:
        self._cache: LRUCache[VersionKey, VersionGraph] = LRUCache(size)

    async def of(self, connection: AsyncConnection, keys: Iterable[VersionKey]) -> dict[VersionKey, VersionGraph]:
        """Return the graph of each version that exists."""
        wanted = set(keys)
        known = {key: self._cache[key] for key in wanted if key in self._cache}
        if missing := {key[0]: key for key in wanted - known.keys()}:
            rows = await connection.execute(select(versions.c.id, versions.c.spec).where(versions.c.id.in_(missing)))
            async for version_id, spec in in_turns(rows):
                key = missing[version_id]
                known[key] = self._cache[key] = _graph(parse(spec))
        return known


def _graph(spec: Spec) -> VersionGraph:
    out: dict[str, list[SpecEdge]] = {START: [], **{node.id: [] for node in spec.nodes}}
    for index, edge in enumerate(spec.edges):
        out[edge.source].append(SpecEdge(index, edge.id, edge.source, edge.target, edge.port, edge.condition))
    nodes = (
        NodeName(node.id, node.label or node.id, node.type, tuple(out[node.id]), node.on_error) for node in spec.nodes
    )
    return VersionGraph(tuple(nodes), tuple(out[START]))


version_graphs = VersionGraphs()


async def graphs(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, VersionGraph]:
    """Read the graph of each run that the caller may see, by run id."""
    visible = (runs.c.id.in_(run_ids), runs.c.project_id.in_(caller.projects))
    return await _graphs_where(connection, *visible)


async def _graphs_where(connection: AsyncConnection, *where: ColumnElement[bool]) -> dict[str, VersionGraph]:
    query = select(runs.c.id, versions.c.id, versions.c.layout_revision).join_from(runs, versions)
    rows = await connection.execute(query.where(*where))
    keys: dict[str, VersionKey] = {run_id: (version_id, revision) for run_id, version_id, revision in rows}
    by_key = await version_graphs.of(connection, keys.values())
    return {run_id: by_key[key] for run_id, key in keys.items()}


async def names(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, tuple[NodeName, ...]]:
    """Read the nodes of each run that the caller may see, by run id."""
    return await _names_where(connection, caller, run_ids)


async def _names_where(
    connection: AsyncConnection, caller: Caller, run_ids: Sequence[str], *conditions: ColumnElement[bool]
) -> dict[str, tuple[NodeName, ...]]:
    visible = (runs.c.id.in_(run_ids), runs.c.project_id.in_(caller.projects))
    graphs_by_run = await _graphs_where(connection, *visible, *conditions)
    return {run_id: graph.nodes for run_id, graph in graphs_by_run.items()}


async def states(connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]) -> dict[str, list[NodeState]]:
    """Read the present state of every node, by run id, in the order of the spec.

    A node without events is IDLE. A run whose history has expired has no states.
    """
    named = await _names_where(connection, caller, run_ids, runs.c.pruned_at.is_(None))
    stored: dict[tuple[str, str], NodeState] = {}
    for group in _in_groups(named, named):
        async for row in in_turns(await connection.execute(_STATES.where(node_states.c.run_id.in_(group)))):
            stored[row[0], row[1]] = codec.node_state_of(row)
    return {run_id: _with_idle(run_id, nodes, stored) async for run_id, nodes in in_turns(named.items())}


def _in_groups(places: Iterable[PlaceT], nodes: Mapping[PlaceT, Sequence[NodeName]]) -> Iterator[list[PlaceT]]:
    """Group runs, or places in them, so that one statement reads about MAX_ROWS node states."""
    group, count = list[PlaceT](), 0
    for place in places:
        if group and count + len(nodes[place]) > MAX_ROWS:
            yield group
            group, count = [], 0
        group.append(place)
        count += len(nodes[place])
    if group:
        yield group


async def current_states(
    connection: AsyncConnection, caller: Caller, run_ids: Sequence[str]
) -> dict[str, list[NodeState]]:
    """Read the states of the nodes that are in progress, by run id, in no order."""
    visible = runs.c.id.in_(run_ids), runs.c.project_id.in_(caller.projects), runs.c.pruned_at.is_(None)
    query = _STATES.join(runs, runs.c.id == node_states.c.run_id).where(*visible, node_states.c.status.in_(IN_PROGRESS))
    states: dict[str, list[NodeState]] = {}
    async for row in in_turns(await connection.execute(query)):
        states.setdefault(row[0], []).append(codec.node_state_of(row))
    return states


async def states_at(
    connection: AsyncConnection, caller: Caller, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[NodeState]]:
    """Read the state of every node after an event, for each place (run id, seq)."""
    named = await names(connection, caller, list({run_id for run_id, _ in places}))
    visible = [place for place in places if place[0] in named]
    stored: dict[tuple[str, int], dict[tuple[str, str], NodeState]] = {place: {} for place in visible}
    nodes = {place: named[place[0]] for place in visible}
    for group in _in_groups(visible, nodes):
        rows = await connection.execute(_states_at(group))
        async for run_id, seq, node_id, event_seq, moment, body in in_turns(rows):
            change = codec.data_of(EventType.NODE_STATE, node_id, body, run_id, event_seq, moment)
            if isinstance(change, NodeChange):
                stored[run_id, seq][run_id, node_id] = change.state
    return {place: _with_idle(place[0], nodes[place], states) async for place, states in in_turns(stored.items())}


def _states_at(places: Sequence[tuple[str, int]]) -> Select[Any]:
    at = _places(places)
    last = (
        select(events.c.node_id, events.c.seq.label("event_seq"), events.c.at, events.c.body)
        .ext(distinct_on(events.c.node_id))
        .where(events.c.run_id == at.c.run_id, events.c.seq <= at.c.seq, events.c.type == EventType.NODE_STATE)
        .order_by(events.c.node_id, events.c.seq.desc())
    ).lateral("last")
    return select(at, last).select_from(at.join(last, true()))


def _places(places: Sequence[tuple[str, int]]) -> FromClause:
    run_ids, numbers = [run_id for run_id, _ in places], [seq for _, seq in places]
    arrays = cast(run_ids, ARRAY(Text)), cast(numbers, ARRAY(Integer))
    return func.unnest(*arrays).table_valued(column("run_id", Text), column("seq", Integer), name="at").render_derived()


def _with_idle(run_id: str, nodes: Iterable[NodeName], stored: Mapping[tuple[str, str], NodeState]) -> list[NodeState]:
    return [stored.get((run_id, node.id)) or NodeState(run_id, node.id) for node in nodes]


async def unfinished(connection: AsyncConnection, run_id: str) -> list[NodeState]:
    """Read the states of the nodes of a run that have begun and not finished."""
    return (await unfinished_of_runs(connection, [run_id]))[run_id]


async def unfinished_of_runs(
    connection: AsyncConnection, run_ids: Sequence[str], *, with_idle: bool = False
) -> dict[str, list[NodeState]]:
    """Read the same as `unfinished` for each run, by run id.

    With `with_idle`, the nodes that have not started, or start again, follow in the order of the
    spec.
    """
    statuses = IN_PROGRESS | {NodeStatus.IDLE} if with_idle else IN_PROGRESS
    query = _STATES.where(node_states.c.run_id.in_(run_ids), node_states.c.status.in_(statuses))
    states: dict[str, list[NodeState]] = {run_id: [] for run_id in run_ids}
    idle: dict[tuple[str, str], NodeState] = {}
    for row in await connection.execute(query.order_by(node_states.c.run_id, node_states.c.node_id)):
        state = codec.node_state_of(row)
        if state.status is NodeStatus.IDLE:
            idle[state.run_id, state.node_id] = state
        else:
            states[state.run_id].append(state)
    if with_idle:
        query = select(node_states.c.run_id, node_states.c.node_id)
        begun = node_states.c.run_id.in_(run_ids), node_states.c.status != NodeStatus.IDLE
        has_begun = {tuple(row) for row in await connection.execute(query.where(*begun))}
        for run_id, graph in (await _graphs_where(connection, runs.c.id.in_(run_ids))).items():
            not_begun = [name for name in graph.nodes if (run_id, name.id) not in has_begun]
            states[run_id] += _with_idle(run_id, not_begun, idle)
    return states


def as_cancelled(state: NodeState) -> NodeState:
    """Return the state of the node after its run was cancelled or ended without it."""
    now = datetime.now(UTC)
    return replace(state, status=NodeStatus.CANCELLED, output_seq=None, has_output=False, completed_at=now)


def as_interrupted(state: NodeState) -> NodeState:
    """Return the state of a node whose worker stopped before the node ended.

    The node runs again on resume.
    """
    message = "Interrupted; runs again on resume"
    return replace(state, status=NodeStatus.IDLE, message=message, output_seq=None, has_output=False)


async def values(
    connection: AsyncConnection, caller: Caller, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Values]:
    """Read the small ones of the input and output stored at each place (run id, seq)."""
    table = node_outputs.c
    small = [small_json_column("node_outputs", name) for name in ("input", "output")]
    rows = await connection.execute(
        select(table.run_id, table.seq, *small)
        .join(runs, runs.c.id == table.run_id)
        .where(tuple_(table.run_id, table.seq).in_(places), runs.c.project_id.in_(caller.projects))
    )
    return {(run_id, seq): Values(input, output) async for run_id, seq, input, output in in_turns(rows)}


async def read_value(
    connection: AsyncConnection, caller: Caller, place: tuple[str, int], name: Literal["input", "output"]
) -> JsonText | None:
    """Read the input or output stored at a place (run id, seq) as text, of any size."""
    run_id, seq = place
    rows = await connection.execute(
        select(cast(node_outputs.c[name], Text))
        .join(runs, runs.c.id == node_outputs.c.run_id)
        .where(node_outputs.c.run_id == run_id, node_outputs.c.seq == seq, runs.c.project_id.in_(caller.projects))
    )
    value = rows.scalar_one_or_none()
    return None if value is None else JsonText(value)


async def with_small_values(
    connection: AsyncConnection, caller: Caller, run_id: str, states: Sequence[NodeState]
) -> list[NodeState]:
    """Fill in the inputs and outputs of one run's states where these are small; see SMALL."""
    table = node_outputs.alias("o")
    stored = [state.output_seq for state in states if state.output_seq is not None]
    rows = await connection.execute(
        select(table.c.seq, table.c.input, table.c.output)
        .join(runs, runs.c.id == table.c.run_id)
        .where(table.c.run_id == run_id, table.c.seq.in_(stored), runs.c.project_id.in_(caller.projects))
        .where(text(SMALL.format("o")))
    )
    values = {seq: {"input": input, "output": output, "output_seq": None} for seq, input, output in rows}
    return [replace(state, **values.get(state.output_seq, {})) for state in states]


async def outputs_at(connection: AsyncConnection, caller: Caller, run_id: str, seq: int) -> dict[str, JSON]:
    """Read each node's latest output up to an event, by node id: a checkpoint's state."""
    return (await all_outputs_at(connection, caller, [(run_id, seq)]))[run_id, seq]


async def all_outputs_at(
    connection: AsyncConnection, caller: Caller, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], dict[str, JSON]]:
    """Read the same as `outputs_at` for each place (run id, seq).

    Rows that a later rewind superseded count.
    """
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
    outputs: dict[tuple[str, int], dict[str, JSON]] = {place: {} for place in places}
    rows = await connection.execute(select(at, last).select_from(at.join(last, true())))
    async for run_id, seq, node_id, output in in_turns(rows):
        outputs[run_id, seq][node_id] = output
    return outputs


_STATES = select(*(node_states.c[column] for column in codec.NODE_STATE_ROW))
