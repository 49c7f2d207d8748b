"""The frontier of a run: its state in terms of nodes and edges, for every version of a workflow.

The position of a run depends on the layout of one plan: which nodes have a barrier, and the index
of each edge. A Frontier does not, so it can become a position of the same plan again, or of another
version's plan. Forks, retries and rewinds use it. Its functions are pure and store nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import NODE_RECORDS, NodeRecord, Signal, Write
from engine.graph.plan import EdgeKind, Plan, PlanEdge, PlanNode, Round
from engine.graph.position import JOIN, LOOP, JoinState, LoopState, Position, Progress
from engine.spec.model import OnError
from engine.states import IN_PROGRESS, NodeStatus


class EdgeKey(NamedTuple):
    """The identity of an edge across versions. `nth` counts edges with the same ends and port."""

    source: str
    target: str
    port: str | None
    nth: int


PartKey = EdgeKey | str
"""A part of a loop's round (engine.graph.position.Part) across versions: a BACK edge by its key, or
an inner loop by the id of its header, or a node with `join: any` by its stored name.
"""


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


def edge_indexes(old: Plan, new: Plan) -> dict[int, int]:
    """Return the index in a new plan of each edge of an old plan that both have."""
    new_edges = EdgeKeys(new).by_key
    return {index: new_edges[key].index for index, key in EdgeKeys(old).keys.items() if key in new_edges}


@dataclass(frozen=True, slots=True)
class JoinTokens:
    """The tokens that have arrived at a join or a loop in one round.

    `taken` says of each settled edge or part whether it was taken. `is_consumed` is True if the
    node has run for this round, or was skipped, or is running.
    """

    round: Round
    taken: Mapping[PartKey, bool]
    is_consumed: bool

    def add(self, key: PartKey, round_: Round, is_taken: bool) -> "JoinTokens":
        """Add a token by the rules of engine.graph.position.

        A newer round replaces these tokens, an older round is ignored, and a taken edge stays
        taken.
        """
        if round_ < self.round:
            return self
        if round_ > self.round:
            return JoinTokens(round_, {key: is_taken}, False)
        return replace(self, taken={**self.taken, key: is_taken or self.taken.get(key, False)})


@dataclass(frozen=True, slots=True)
class Frontier:
    """The state of a run between two supersteps.

    Attributes:
        records: The record of each node that has begun.
        joins: By node: the tokens of its FORWARD and EXIT edges, also for nodes without a barrier.
        loops: By header: the tokens of the parts of its loop.
        held: The nodes that a breakpoint has delayed, with the round in which they are due.
    """

    records: dict[str, NodeRecord] = field(default_factory=dict)
    joins: dict[str, JoinTokens] = field(default_factory=dict)
    loops: dict[str, JoinTokens] = field(default_factory=dict)
    held: dict[str, Round] = field(default_factory=dict)


def is_ready(node: PlanNode, join: JoinTokens | None) -> bool:
    """Whether a node is due because of its entries."""
    if join is None or join.is_consumed:
        return False
    return len(join.taken) == len(node.entries) or (node.joins_any and any(join.taken.values()))


def read_frontier(plan: Plan, values: Mapping[str, Any], writes: Sequence[Write] = ()) -> Frontier:
    """Convert a stored checkpoint to a frontier.

    Args:
        plan: The plan of the run's version.
        values: The channel values of the checkpoint.
        writes: The records, Sends and tokens that an older release has stored on top of it.
    """
    records: dict[str, NodeRecord] = dict(values.get(NODE_RECORDS, {}))
    for channel, value in writes:
        if channel == NODE_RECORDS:
            records.update(value)
    # Sends on top of a checkpoint are preceded by those of the checkpoint itself.
    sends = [value for channel, value in writes if channel == TASKS] or values.get(TASKS, ())
    signals: dict[str, Signal] = {send.node: send.arg for send in sends}
    position = _load(plan, values, records, signals)
    for channel, value in writes:
        if channel not in (NODE_RECORDS, TASKS):
            apply_progress(records, position.deliver(*value))
    held = {node_id: position.active[node_id] for node_id, signal in signals.items() if signal.held}
    return frontier_of(position, records, held)


def _load(
    plan: Plan, values: Mapping[str, Any], records: Mapping[str, NodeRecord], signals: Mapping[str, Signal]
) -> Position:
    position = Position(plan)
    due = {node_id: signal.round_of(plan.nodes[node_id]) for node_id, signal in signals.items()}
    position.load(values, records, due)
    return position


def apply_progress(records: dict[str, NodeRecord], progress: Progress) -> None:
    """Skip and restore nodes as a position has decided, in place."""
    for node_id, round_ in progress.skipped:
        records[node_id] = (records.get(node_id) or NodeRecord(NodeStatus.IDLE)).skipped(round_)
    for node_id in progress.restored:
        records[node_id] = records[node_id].restored()


def frontier_of(position: Position, records: Mapping[str, NodeRecord], held: Mapping[str, Round]) -> Frontier:
    """Convert a position to a frontier.

    A node that is due and not held has tokens that are not consumed. A node without a barrier has
    no join in the position: its record, or the visit that is due, tells whether the token has
    arrived.

    Args:
        position: The position of the run.
        records: The record of each node.
        held: The nodes that a breakpoint has delayed, with the round in which they are due.
    """
    plan, edges = position.plan, EdgeKeys(position.plan)
    unfinished = {node_id for node_id, record in records.items() if record.status in IN_PROGRESS}
    due = {id_: round_ for id_, round_ in position.active.items() if id_ not in unfinished and id_ not in held}
    frontier = Frontier(dict(records), held=dict(held))
    for node in plan.nodes.values():
        due_round = due.get(node.id)
        is_next_round = due_round is not None and node.is_header and due_round[-1] > 0
        entered_round = None if is_next_round else due_round
        if node.needs_barrier:
            join = position.joins.get(node.id)
            tokens = None if join is None else _tokens(edges, join, join.is_fired and entered_round is None)
        else:
            visit_round = held.get(node.id, entered_round)
            tokens = _tokens_without_barrier(node, edges, records.get(node.id), visit_round, node.id in held)
        if tokens is not None:
            frontier.joins[node.id] = tokens
        if node.id in position.loops:
            loop = position.loops[node.id]
            frontier.loops[node.id] = _tokens(edges, loop, loop.is_over and not is_next_round)
    return frontier


def _tokens(edges: EdgeKeys, state: JoinState | LoopState, is_consumed: bool) -> JoinTokens:
    taken: dict[PartKey, bool] = {}
    for part, is_taken in state.taken.items():
        taken[part if isinstance(part, str) else edges.keys[part]] = is_taken
    return JoinTokens(state.round, taken, is_consumed)


def _tokens_without_barrier(
    node: PlanNode, edges: EdgeKeys, record: NodeRecord | None, visit_round: Round | None, is_held: bool
) -> JoinTokens | None:
    """Return the token of a single entry. `visit_round` is the round of a visit that is due."""
    if visit_round is not None:
        key = edges.keys[node.entries[0].index]
        return JoinTokens(node.entry_round(visit_round), {key: True}, is_held)
    return None if record is None else consumed_join(node, edges, record)


def consumed_join(node: PlanNode, edges: EdgeKeys, record: NodeRecord) -> JoinTokens:
    """Return the join of a node without a barrier after the visit, or the skip, in its record."""
    key = edges.keys[node.entries[0].index]
    if record.undone_skip is not None:
        return JoinTokens(node.entry_round(record.undone_skip), {key: False}, True)
    return JoinTokens(node.entry_round(record.round), {key: record.status is not NodeStatus.SKIPPED}, True)


def position_of(plan: Plan, frontier: Frontier) -> Position:
    """Convert a frontier to a position. `Position.wake` finds the nodes that it makes due."""
    values = channel_values(plan, frontier)
    signals: dict[str, Signal] = {send.node: send.arg for send in values.pop(TASKS, ())}
    return _load(plan, values, frontier.records, signals)


def channel_values(plan: Plan, frontier: Frontier) -> dict[str, Any]:
    """Convert a frontier to the channel values of a checkpoint: the inverse of `read_frontier`."""
    edges = EdgeKeys(plan)
    values: dict[str, Any] = {NODE_RECORDS: dict(frontier.records)}
    sends = [Send(node_id, Signal(round_, held=True)) for node_id, round_ in frontier.held.items()]
    for node_id, join in frontier.joins.items():
        if plan.nodes[node_id].needs_barrier:
            values[JOIN + node_id] = _stored_value(edges, join)
        elif is_ready(plan.nodes[node_id], join):
            sends.append(Send(node_id, Signal(join.round, is_entry=True)))
    for node_id, loop in frontier.loops.items():
        values[LOOP + node_id] = _stored_value(edges, loop)
    return {**values, TASKS: sends} if sends else values


def _stored_value(edges: EdgeKeys, tokens: JoinTokens) -> list[Any]:
    taken = [
        [key if isinstance(key, str) else edges.by_key[key].index, is_taken] for key, is_taken in tokens.taken.items()
    ]
    return [list(tokens.round), taken, tokens.is_consumed]


def find_due(plan: Plan, frontier: Frontier) -> list[str]:
    """Find the nodes that a frontier makes due, the held ones included."""
    position = position_of(plan, frontier)
    position.wake()
    unfinished = {node_id for node_id, record in frontier.records.items() if record.status in IN_PROGRESS}
    return [node_id for node_id in position.active if node_id not in unfinished]


def restart_unfinished(plan: Plan, frontier: Frontier) -> Frontier:
    """Return a frontier from which a run that has stopped or failed can go on.

    Visits that had begun and not ended start again, at their first attempt: nodes that ran, waited,
    were cancelled, or failed the run. Tokens that the end of the run has lost are restored. Finished visits stay.
    """
    edges = EdgeKeys(plan)
    result = replace(frontier, records=dict(frontier.records), joins=dict(frontier.joins), loops=dict(frontier.loops))
    for node_id, record in frontier.records.items():
        node = plan.nodes[node_id]
        has_failed_run = record.status is NodeStatus.FAILED and node.spec.on_error is OnError.FAIL
        is_stopped = record.status is NodeStatus.CANCELLED and not _is_superfluous(edges, frontier, node, record.round)
        if record.status in IN_PROGRESS or is_stopped or has_failed_run:
            result.records[node_id] = replace(record, status=NodeStatus.RUNNING, attempt=1)
        elif lost := [edge for edge in node.out if not _is_settled(edges, frontier, edge, record.round)]:
            _restore_lost(plan, edges, result, node_id, lost)
    _reopen_joins(plan, frontier, result)
    return result


def _reopen_joins(plan: Plan, frontier: Frontier, result: Frontier) -> None:
    """Reopen joins that were consumed for a visit that never began.

    The node had reached maxVisits, which ended the run. A join without a taken edge has skipped its
    node, even if the record shows a visit again since the end of a loop.
    """
    for node_id, join in frontier.joins.items():
        record = frontier.records.get(node_id)
        has_begun = record is not None and plan.nodes[node_id].entry_round(record.round) >= join.round
        if join.is_consumed and any(join.taken.values()) and not has_begun and node_id not in frontier.held:
            result.joins[node_id] = replace(join, is_consumed=False)
    for node_id, loop in frontier.loops.items():
        record = frontier.records.get(node_id)
        has_begun = record is not None and record.round > loop.round
        if loop.is_consumed and any(loop.taken.values()) and not has_begun and node_id not in frontier.held:
            result.loops[node_id] = replace(loop, is_consumed=False)


def _is_superfluous(edges: EdgeKeys, frontier: Frontier, node: PlanNode, round_: Round) -> bool:
    """Whether a cancelled node was cancelled because of a `join: any`, and not by the end of the run.

    Then its edges have settled. At least one of its edges leads to a part of the same loop.
    """
    stays = [edge for edge in node.out if not edge.leaves]
    return bool(stays) and all(_is_settled(edges, frontier, edge, round_) for edge in stays)


def _is_settled(edges: EdgeKeys, frontier: Frontier, edge: PlanEdge, round_: Round) -> bool:
    """Whether the token of this edge has arrived for a round of its settled source.

    True for every edge that leaves a loop: it may have no token before its loop is over, so a
    missing token means nothing.
    """
    if edge.leaves:
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
            result.joins[target.id] = JoinTokens(edge.round_at_target(record.round), {key: True}, False)
