"""The frontier of a run: its state in terms of nodes and edges instead of channels.

The channels of a checkpoint depend on the layout of one plan: which nodes have a barrier, and the
index of each edge. A Frontier does not, so it can become the channels of the same plan again, or
of another version's plan. Forks, retries and rewinds use it. Its functions are pure and store
nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import JOIN_BARRIER, LOOP, NODE_RECORDS, EdgeToken, JoinBarrier, NodeRecord, Signal, Write
from engine.graph.head import due_nodes
from engine.graph.plan import EdgeKind, Plan, PlanEdge, PlanNode, Round
from engine.spec.model import OnError
from engine.states import UNFINISHED, NodeStatus


class EdgeKey(NamedTuple):
    """The identity of an edge across versions. `nth` counts edges with the same ends and port."""

    source: str
    target: str
    port: str | None
    nth: int


class EdgeKeys:
    """The edges of a plan by key, and their keys by index."""

    def __init__(self, plan: Plan) -> None:
        count: Counter[tuple[str, str, str | None]] = Counter()
        self.keys: dict[int, EdgeKey] = {}
        self.by_key: dict[EdgeKey, PlanEdge] = {}
        out = [*plan.starts, *(edge for node in plan.nodes.values() for edge in node.out)]
        for edge in sorted(out, key=lambda edge: edge.index):
            ends = (edge.source, edge.target, edge.port)
            key = self.keys[edge.index] = EdgeKey(*ends, count[ends])
            self.by_key[key] = edge
            count[ends] += 1


@dataclass(frozen=True, slots=True)
class JoinState:
    """The tokens that have arrived at a join or a loop barrier in one round.

    `taken` says of each settled edge whether it was taken. `is_consumed` is True if the node has
    run for this round, or was skipped, or is running.
    """

    round: Round
    taken: Mapping[EdgeKey, bool]
    is_consumed: bool

    def add(self, key: EdgeKey, round_: Round, is_taken: bool) -> "JoinState":
        """Add a token by the rules of JoinBarrier.

        A newer round replaces this state, an older round is ignored, and a taken edge stays taken.
        """
        if round_ < self.round:
            return self
        if round_ > self.round:
            return JoinState(round_, {key: is_taken}, False)
        return replace(self, taken={**self.taken, key: is_taken or self.taken.get(key, False)})


@dataclass(frozen=True, slots=True)
class Frontier:
    """The state of a run between two supersteps.

    Attributes:
        records: The record of each node that has begun.
        joins: By node: the tokens of its FORWARD and EXIT edges, also for nodes without a barrier.
        loops: By header: the tokens of its BACK edges.
        held: The nodes that a breakpoint has delayed, with the round in which they are due.
    """

    records: dict[str, NodeRecord] = field(default_factory=dict)
    joins: dict[str, JoinState] = field(default_factory=dict)
    loops: dict[str, JoinState] = field(default_factory=dict)
    held: dict[str, Round] = field(default_factory=dict)


def is_ready(node: PlanNode, join: JoinState | None) -> bool:
    """Whether a node is due because of its entries."""
    if join is None or join.is_consumed:
        return False
    return len(join.taken) == len(node.entries) or (node.joins_any and any(join.taken.values()))


def apply_writes(plan: Plan, values: Mapping[str, Any], writes: Sequence[Write]) -> dict[str, Any]:
    """Return the channel values of a checkpoint with the pending writes on top of it.

    Args:
        plan: The plan of the run's version.
        values: The channel values of the checkpoint.
        writes: The pending writes, in order.
    """
    result = dict(values)
    sends = [value for channel, value in writes if channel == TASKS]
    if sends:
        result[TASKS] = sends  # HeadWrites.enter has put the Sends of the checkpoint before them.
    for channel, value in writes:
        if channel == NODE_RECORDS:
            result[NODE_RECORDS] = {**result.get(NODE_RECORDS, {}), **value}
        elif channel.startswith((JOIN_BARRIER, LOOP)):
            barrier = _barrier(plan, channel, result)
            barrier.update([value])
            result[channel] = barrier.checkpoint()
    return result


def read_frontier(plan: Plan, values: Mapping[str, Any]) -> Frontier:
    """Convert the channel values of a checkpoint to a frontier.

    A node without a barrier has no channel for its entry: its record or its pending Send shows
    whether the token has arrived.
    """
    edges = EdgeKeys(plan)
    records: dict[str, NodeRecord] = dict(values.get(NODE_RECORDS, {}))
    sends: dict[str, Signal] = {send.node: send.arg for send in values.get(TASKS, ())}
    frontier = Frontier(records, held={name: signal.round for name, signal in sends.items() if signal.held})
    for node in plan.nodes.values():
        if node.needs_barrier:
            join = _join_of_barrier(edges, values.get(JOIN_BARRIER + node.id))
        else:
            join = _join_without_barrier(node, edges, records.get(node.id), sends.get(node.id))
        if join is not None:
            frontier.joins[node.id] = join
        if node.is_header and (loop := _join_of_barrier(edges, values.get(LOOP + node.id))) is not None:
            frontier.loops[node.id] = loop
    return frontier


def _join_of_barrier(edges: EdgeKeys, value: Any) -> JoinState | None:
    if value is None:
        return None
    round_, seen, fired = value
    return JoinState(tuple(round_), {edges.keys[edge]: taken for edge, taken in seen}, fired)


def _join_without_barrier(
    node: PlanNode, edges: EdgeKeys, record: NodeRecord | None, signal: Signal | None
) -> JoinState | None:
    if signal is not None:
        key = edges.keys[node.entries[0].index]
        round_ = node.entry_round(signal.round) if signal.held else signal.round
        return JoinState(round_, {key: True}, signal.held)
    return None if record is None else consumed_join(node, edges, record)


def consumed_join(node: PlanNode, edges: EdgeKeys, record: NodeRecord) -> JoinState:
    """Return the join of a node without a barrier after the visit, or the skip, in its record."""
    key = edges.keys[node.entries[0].index]
    return JoinState(node.entry_round(record.round), {key: record.status is not NodeStatus.SKIPPED}, True)


def channel_values(plan: Plan, frontier: Frontier) -> dict[str, Any]:
    """Convert a frontier to the channel values of a checkpoint: the inverse of `read_frontier`."""
    edges = EdgeKeys(plan)
    values: dict[str, Any] = {NODE_RECORDS: dict(frontier.records)}
    sends = [Send(node_id, Signal(round_, True, held=True)) for node_id, round_ in frontier.held.items()]
    for node_id, join in frontier.joins.items():
        if plan.nodes[node_id].needs_barrier:
            values[JOIN_BARRIER + node_id] = _barrier_value(edges, join)
        elif is_ready(plan.nodes[node_id], join):
            sends.append(Send(node_id, Signal(join.round, True)))
    for node_id, loop in frontier.loops.items():
        values[LOOP + node_id] = _barrier_value(edges, loop)
    return {**values, TASKS: sends} if sends else values


def _barrier_value(edges: EdgeKeys, join: JoinState) -> list[Any]:
    seen = [[edges.by_key[key].index, is_taken] for key, is_taken in join.taken.items()]
    return [list(join.round), seen, join.is_consumed]


def find_due(plan: Plan, values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Find the nodes that a checkpoint with these channel values makes due.

    Returns:
        The nodes, and the channels that make them due as LangGraph lists updated channels.
    """
    opened = sorted(
        name for name in values if name.startswith((JOIN_BARRIER, LOOP)) and _barrier(plan, name, values).is_available()
    )
    return list(dict.fromkeys(due_nodes(values, opened))), [*([TASKS] if values.get(TASKS) else []), *opened]


def _barrier(plan: Plan, channel: str, values: Mapping[str, Any]) -> JoinBarrier:
    node = plan.nodes[channel.split(":", 1)[1]]
    is_loop = channel.startswith(LOOP)
    barrier = JoinBarrier(len(node.back_edges)) if is_loop else JoinBarrier(len(node.entries), node.joins_any)
    return barrier.from_checkpoint(values[channel]) if channel in values else barrier


def add_write(edges: EdgeKeys, frontier: Frontier, plan: Plan, write: Write) -> None:
    """Add the token of one write of `settle_edges` to a frontier, in place."""
    channel, value = write
    if channel == TASKS:
        entry = plan.nodes[value.node].entries[0]
        joins, name, token = frontier.joins, value.node, EdgeToken(entry.index, value.arg.round, True)
    else:
        joins = frontier.loops if channel.startswith(LOOP) else frontier.joins
        name, token = channel.split(":", 1)[1], value
    join = joins.get(name) or JoinState(token.round, {}, False)
    joins[name] = join.add(edges.keys[token.edge], token.round, token.taken)


def restart_unfinished(plan: Plan, frontier: Frontier) -> Frontier:
    """Return a frontier from which a run that has stopped or failed can go on.

    Visits that had begun and not ended start again: nodes that ran, waited, were cancelled, or
    failed the run. Tokens that the end of the run has lost are restored. Finished visits stay.
    """
    edges = EdgeKeys(plan)
    result = replace(frontier, records=dict(frontier.records), joins=dict(frontier.joins), loops=dict(frontier.loops))
    for node_id, record in frontier.records.items():
        node = plan.nodes[node_id]
        has_failed_run = record.status is NodeStatus.FAILED and node.spec.on_error is OnError.FAIL
        if record.status in UNFINISHED or record.status is NodeStatus.CANCELLED or has_failed_run:
            result.records[node_id] = replace(record, status=NodeStatus.RUNNING)
        elif lost := [edge for edge in node.out if not _is_settled(edges, frontier, edge, record.round)]:
            _restore_lost(plan, edges, result, node_id, lost)
    _reopen_joins(plan, frontier, result)
    return result


def _reopen_joins(plan: Plan, frontier: Frontier, result: Frontier) -> None:
    """Reopen joins that were consumed for a visit that never began.

    The node had reached maxVisits, which ended the run.
    """
    for node_id, join in frontier.joins.items():
        record = frontier.records.get(node_id)
        has_begun = record is not None and plan.nodes[node_id].entry_round(record.round) >= join.round
        if join.is_consumed and not has_begun and node_id not in frontier.held:
            result.joins[node_id] = replace(join, is_consumed=False)
    for node_id, loop in frontier.loops.items():
        record = frontier.records.get(node_id)
        has_begun = record is not None and record.round > loop.round
        if loop.is_consumed and any(loop.taken.values()) and not has_begun and node_id not in frontier.held:
            result.loops[node_id] = replace(loop, is_consumed=False)


def _is_settled(edges: EdgeKeys, frontier: Frontier, edge: PlanEdge, round_: Round) -> bool:
    """Whether the token of this edge has arrived for a round of its settled source.

    True for every EXIT edge: it may have no token before its loop is over, so a missing token means
    nothing.
    """
    if edge.kind is EdgeKind.EXIT:
        return True
    joins = frontier.loops if edge.kind is EdgeKind.BACK else frontier.joins
    join, token_round = joins.get(edge.target), edge.round_at_target(round_)
    if join is None:
        return False
    return join.round > token_round or (join.round == token_round and edges.keys[edge.index] in join.taken)


def _restore_lost(plan: Plan, edges: EdgeKeys, result: Frontier, node_id: str, lost: Sequence[PlanEdge]) -> None:
    """Handle edges of a settled node whose tokens were lost with the end of the run.

    Either a target had reached maxVisits: then it is due again. Or the edges of the node could not
    be settled, because a condition failed: then the node itself runs again.
    """
    record = result.records[node_id]
    for edge in lost:
        target = plan.nodes[edge.target]
        target_record = result.records.get(target.id)
        if target.needs_barrier or target_record is None or target_record.visits < target.spec.max_visits:
            result.records[node_id] = replace(record, status=NodeStatus.RUNNING)
        else:
            key = edges.keys[edge.index]
            result.joins[target.id] = JoinState(edge.round_at_target(record.round), {key: True}, False)
