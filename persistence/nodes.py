"""Node states and node outputs of runs, read for many runs at once. Written by the journal; never here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import RowMapping, or_, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import JSON, NodeChange, NodeState
from engine.spec import Spec, parse
from engine.states import SETTLED, EventType, NodeStatus
from persistence import wire
from persistence.caller import Caller
from persistence.tables import events, node_outputs, node_states, runs, versions


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
    found = await connection.execute(select(node_states).where(node_states.c.run_id.in_(named)))
    stored = {(row["run_id"], row["node_id"]): _state_of(row) for row in found.mappings()}
    return {run_id: _with_idle(run_id, nodes, stored) for run_id, nodes in named.items()}


async def states_at(
    connection: AsyncConnection, caller: Caller, places: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[NodeState]]:
    """Every node of a run as it stood after the event `seq`, for each place (run id, seq)."""
    named = await names(connection, caller, [run_id for run_id, _ in places])
    return {
        (run_id, seq): _with_idle(run_id, named[run_id], await _history_to(connection, run_id, seq))
        for run_id, seq in places
        if run_id in named
    }


async def _history_to(connection: AsyncConnection, run_id: str, seq: int) -> dict[tuple[str, str], NodeState]:
    last = (
        select(events.c.node_id, events.c.seq, events.c.body)
        .ext(distinct_on(events.c.node_id))
        .where(events.c.run_id == run_id, events.c.seq <= seq, events.c.type == EventType.NODE_STATE)
        .order_by(events.c.node_id, events.c.seq.desc())
    )
    stored = {}
    for node_id, at, body in await connection.execute(last):
        change = wire.happening_of(EventType.NODE_STATE, node_id, body, run_id, at)
        if isinstance(change, NodeChange):
            stored[run_id, change.node_id] = change.state
    return stored


def _with_idle(run_id: str, nodes: Iterable[NodeName], stored: Mapping[tuple[str, str], NodeState]) -> list[NodeState]:
    return [stored.get((run_id, node.id)) or NodeState(run_id, node.id) for node in nodes]


async def unsettled(connection: AsyncConnection, run_id: str) -> list[NodeState]:
    """The nodes of a run whose stored status says that they are under way."""
    open_statuses = [status for status in NodeStatus if status not in SETTLED and status is not NodeStatus.IDLE]
    found = await connection.execute(
        select(node_states).where(node_states.c.run_id == run_id, node_states.c.status.in_(open_statuses))
    )
    return [_state_of(row) for row in found.mappings()]


def cancelled(state: NodeState) -> NodeState:
    now = datetime.now(UTC)
    return replace(state, status=NodeStatus.CANCELLED, output_seq=None, has_output=False, completed_at=now)


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


async def outputs_at(connection: AsyncConnection, caller: Caller, run_id: str, seq: int) -> dict[str, JSON]:
    """Each node's latest output up to `seq`, by node id: the state at a checkpoint."""
    table = node_outputs.c
    found = await connection.execute(
        select(table.node_id, table.output)
        .ext(distinct_on(table.node_id))
        .join(runs, runs.c.id == table.run_id)
        .where(
            table.run_id == run_id,
            table.seq <= seq,
            or_(table.superseded_seq.is_(None), table.superseded_seq > seq),
            table.output.is_not(None),
            runs.c.project_id.in_(caller.projects),
        )
        .order_by(table.node_id, table.seq.desc())
    )
    return dict(found.all())


def _state_of(row: RowMapping) -> NodeState:
    # The output of an earlier visit is not that of a node on its next one: events say the same.
    has_values = row["output_seq"] == row["seq"]
    values: dict[str, Any] = dict(row)
    values["status"] = NodeStatus(values["status"])
    values["error"] = wire.error_of(values["error"])
    values["output_seq"] = values["output_seq"] if has_values else None
    return NodeState(**values, has_output=has_values)
