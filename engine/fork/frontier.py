"""Where a run stands, told by nodes and edges: the turns that nodes have had, and what has come in at their doors since.

A head's channels follow one plan's layout: which nodes have a gate, which number an edge has. A Frontier does not, so it
can become the channels of the same plan again, or of another version's. Pure: nothing here is stored.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import JOIN_BARRIER, LOOP, NODE_RECORDS, EdgeToken, JoinBarrier, NodeRecord, Signal, Write
from engine.graph.head import due_nodes
from engine.graph.plan import EdgeKind, Plan, PlanEdge, PlanNode, Round, is_joined_by_any
from engine.spec.model import OnError
from engine.states import UNFINISHED, NodeStatus


class EdgeKey(NamedTuple):
    """An edge by what it joins. `nth` tells edges with the same ends and port apart."""

    source: str
    target: str
    port: str | None
    nth: int


class Edges:
    """A plan's edges by key, and their keys by number."""

    def __init__(self, plan: Plan) -> None:
        counted: Counter[tuple[str, str, str | None]] = Counter()
        self.keys: dict[int, EdgeKey] = {}
        self.by_key: dict[EdgeKey, PlanEdge] = {}
        out = [*plan.starts, *(edge for node in plan.nodes.values() for edge in node.out)]
        for edge in sorted(out, key=lambda edge: edge.index):
            ends = (edge.source, edge.target, edge.port)
            key = self.keys[edge.index] = EdgeKey(*ends, counted[ends])
            self.by_key[key] = edge
            counted[ends] += 1


@dataclass(frozen=True, slots=True)
class JoinState:
    """What has come in at a node in one round. `is_passed`: the node has had its turn for it, or is having it."""

    round: Round
    seen: Mapping[EdgeKey, bool]
    is_passed: bool

    def take(self, key: EdgeKey, round_: Round, taken: bool) -> "JoinState":
        """As a gate does: a newer round starts afresh, an older one is late, and taken is sticky."""
        if round_ < self.round:
            return self
        if round_ > self.round:
            return JoinState(round_, {key: taken}, False)
        return replace(self, seen={**self.seen, key: taken or self.seen.get(key, False)})


@dataclass(frozen=True, slots=True)
class Frontier:
    """`doors` are those of a node's forward and exit edges, `loops` those of a loop's back edges, by header.

    `held` are turns that a breakpoint has put off, in the node's own round.
    """

    slots: dict[str, NodeRecord] = field(default_factory=dict)
    doors: dict[str, JoinState] = field(default_factory=dict)
    loops: dict[str, JoinState] = field(default_factory=dict)
    held: dict[str, Round] = field(default_factory=dict)


def entry_of(node: PlanNode, round_: Round) -> Round:
    """The round at a node's door that led to its own `round_`."""
    return round_[:-1] if node.is_header else round_


def is_open(node: PlanNode, door: JoinState | None) -> bool:
    """Whether the node is due by what has come in."""
    if door is None or door.is_passed:
        return False
    return len(door.seen) == len(node.entries) or (is_joined_by_any(node) and any(door.seen.values()))


def applied(plan: Plan, values: Mapping[str, Any], writes: Sequence[Write]) -> dict[str, Any]:
    """The channels of a checkpoint with the writes that wait on top of it."""
    result = dict(values)
    sends = [value for channel, value in writes if channel == TASKS]
    if sends:
        result[TASKS] = sends  # who wrote them has brought along what was due already
    for channel, value in writes:
        if channel == NODE_RECORDS:
            result[NODE_RECORDS] = {**result.get(NODE_RECORDS, {}), **value}
        elif channel.startswith((JOIN_BARRIER, LOOP)):
            gate = _gate(plan, channel, result)
            gate.update([value])
            result[channel] = gate.checkpoint()
    return result


def read(plan: Plan, values: Mapping[str, Any]) -> Frontier:
    """The Frontier that these channels tell. The slot of a node with one entry tells what came in at its door."""
    edges = Edges(plan)
    slots: dict[str, NodeRecord] = dict(values.get(NODE_RECORDS, {}))
    sends: dict[str, Signal] = {send.node: send.arg for send in values.get(TASKS, ())}
    found = Frontier(slots, held={name: signal.round for name, signal in sends.items() if signal.held})
    for node in plan.nodes.values():
        if node.needs_gate:
            door = _door(edges, values.get(JOIN_BARRIER + node.id))
        else:
            door = _only_door(node, edges, slots.get(node.id), sends.get(node.id))
        if door is not None:
            found.doors[node.id] = door
        if node.is_header and (again := _door(edges, values.get(LOOP + node.id))) is not None:
            found.loops[node.id] = again
    return found


def _door(edges: Edges, gate: Any) -> JoinState | None:
    if gate is None:
        return None
    round_, seen, fired = gate
    return JoinState(tuple(round_), {edges.keys[edge]: taken for edge, taken in seen}, fired)


def _only_door(node: PlanNode, edges: Edges, slot: NodeRecord | None, signal: Signal | None) -> JoinState | None:
    """The door of a node without a gate."""
    key = edges.keys[node.entries[0].index]
    if signal is not None:
        return JoinState(entry_of(node, signal.round) if signal.held else signal.round, {key: True}, signal.held)
    return None if slot is None else passed(node, edges, slot)


def passed(node: PlanNode, edges: Edges, slot: NodeRecord) -> JoinState:
    """The door of a node without a gate after the turn that `slot` tells of."""
    key = edges.keys[node.entries[0].index]
    return JoinState(entry_of(node, slot.round), {key: slot.status is not NodeStatus.SKIPPED}, True)


def channels(plan: Plan, frontier: Frontier) -> dict[str, Any]:
    """The reverse of `read`: the channel values of a checkpoint of this plan."""
    edges = Edges(plan)
    values: dict[str, Any] = {NODE_RECORDS: dict(frontier.slots)}
    sends = [Send(node_id, Signal(round_, True, held=True)) for node_id, round_ in frontier.held.items()]
    for node_id, door in frontier.doors.items():
        if plan.nodes[node_id].needs_gate:
            values[JOIN_BARRIER + node_id] = _value(edges, door)
        elif is_open(plan.nodes[node_id], door):
            sends.append(Send(node_id, Signal(door.round, True)))
    for node_id, door in frontier.loops.items():
        values[LOOP + node_id] = _value(edges, door)
    return {**values, TASKS: sends} if sends else values


def _value(edges: Edges, door: JoinState) -> list[Any]:
    return [list(door.round), [[edges.by_key[key].index, taken] for key, taken in door.seen.items()], door.is_passed]


def due(plan: Plan, values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What these channels make due: (the nodes, the channels that make them so), as LangGraph will see it."""
    opened = sorted(
        name for name in values if name.startswith((JOIN_BARRIER, LOOP)) and _gate(plan, name, values).is_available()
    )
    return list(dict.fromkeys(due_nodes(values, opened))), [*([TASKS] if values.get(TASKS) else []), *opened]


def _gate(plan: Plan, channel: str, values: Mapping[str, Any]) -> JoinBarrier:
    node = plan.nodes[channel.split(":", 1)[1]]
    is_loop = channel.startswith(LOOP)
    gate = JoinBarrier(len(node.back_edges)) if is_loop else JoinBarrier(len(node.entries), is_joined_by_any(node))
    return gate.from_checkpoint(values[channel]) if channel in values else gate


def let_in(edges: Edges, frontier: Frontier, plan: Plan, write: Write) -> None:
    """Lets one write of a settled node in at the door that it is for."""
    channel, value = write
    if channel == TASKS:
        key = edges.keys[plan.nodes[value.node].entries[0].index]
        doors, name, came = frontier.doors, value.node, EdgeToken(edges.by_key[key].index, value.arg.round, True)
    else:
        doors = frontier.loops if channel.startswith(LOOP) else frontier.doors
        name, came = channel.split(":", 1)[1], value
    key = edges.keys[came.edge]
    door = doors.get(name) or JoinState(came.round, {}, False)
    doors[name] = door.take(key, came.round, came.taken)


def begun_again(plan: Plan, frontier: Frontier) -> Frontier:
    """What had begun and not ended begins again: nodes that ran, waited, were cancelled or failed the run, and turns that
    the end of the run cut short. What has finished stays finished.
    """
    edges = Edges(plan)
    result = replace(frontier, slots=dict(frontier.slots), doors=dict(frontier.doors), loops=dict(frontier.loops))
    for node_id, slot in frontier.slots.items():
        node = plan.nodes[node_id]
        has_failed = slot.status is NodeStatus.FAILED and node.spec.on_error is OnError.FAIL
        if slot.status in UNFINISHED or slot.status is NodeStatus.CANCELLED or has_failed:
            result.slots[node_id] = replace(slot, status=NodeStatus.RUNNING)
        elif lost := [edge for edge in node.out if not _has_arrived(edges, frontier, edge, slot.round)]:
            _begin_lost(plan, edges, result, node_id, lost)
    _open_again(plan, frontier, result)
    return result


def _open_again(plan: Plan, frontier: Frontier, result: Frontier) -> None:
    """Doors that were passed for a turn that never came: the node had no visits left."""
    for node_id, door in frontier.doors.items():
        slot = frontier.slots.get(node_id)
        had_turn = slot is not None and entry_of(plan.nodes[node_id], slot.round) >= door.round
        if door.is_passed and not had_turn and node_id not in frontier.held:
            result.doors[node_id] = replace(door, is_passed=False)
    for node_id, door in frontier.loops.items():
        slot = frontier.slots.get(node_id)
        had_turn = slot is not None and slot.round > door.round
        if door.is_passed and any(door.seen.values()) and not had_turn and node_id not in frontier.held:
            result.loops[node_id] = replace(door, is_passed=False)


def _has_arrived(edges: Edges, frontier: Frontier, edge: PlanEdge, round_: Round) -> bool:
    """Whether this edge of a settled node was settled. An exit tells nothing: it is dead only when its loop is over."""
    if edge.kind is EdgeKind.EXIT:
        return True
    doors = frontier.loops if edge.kind is EdgeKind.BACK else frontier.doors
    door, at = doors.get(edge.target), edge.round_at_target(round_)
    return door is not None and (door.round > at or (door.round == at and edges.keys[edge.index] in door.seen))


def _begin_lost(plan: Plan, edges: Edges, result: Frontier, node_id: str, lost: Sequence[PlanEdge]) -> None:
    """Edges of a settled node led nowhere: its targets had no visits left, or the node's own edges could not be settled."""
    slot = result.slots[node_id]
    for edge in lost:
        target = plan.nodes[edge.target]
        visited = result.slots.get(target.id)
        if target.needs_gate or visited is None or visited.visits < target.spec.max_visits:
            result.slots[node_id] = replace(slot, status=NodeStatus.RUNNING)
        else:
            result.doors[target.id] = JoinState(edge.round_at_target(slot.round), {edges.keys[edge.index]: True}, False)
