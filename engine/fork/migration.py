"""Migrate a frontier to the plan of another version, or refuse with everything that does not fit.

This is the migration of a process instance to another process definition. Nodes correspond by id,
edges by their ends and port. A fork onto another version uses it. Everything here is pure and
stores nothing.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from engine.fork.frontier import (
    EdgeKeys,
    Frontier,
    JoinTokens,
    PartKey,
    apply_progress,
    frontier_of,
    is_ready,
    position_of,
)
from engine.fork.patch import PatchRefused
from engine.graph.plan import EdgeKind, Plan, PlanEdge, Round
from engine.graph.position import JOIN
from engine.problems import FieldProblem
from engine.spec.model import START
from engine.states import FINISHED, WITHOUT_OUTPUT, NodeStatus


def migrate_frontier(old: Plan, new: Plan, frontier: Frontier, patched: Collection[str] = ()) -> Frontier:
    """Convert a frontier of one plan to a frontier of another.

    Args:
        old: The plan of the run's version.
        new: The plan of the other version.
        frontier: The state of the run.
        patched: The ids of the patched nodes. Their edges are not checked, because `settle_patched`
            settles them later.

    Raises:
        PatchRefused: The state has no meaning in the other version.
    """
    migration = _Migration(old, new, frontier, patched)
    migration.check_nodes()
    if not migration.problems:
        migration.check_edges()
    if migration.problems:
        raise PatchRefused(migration.problems)
    return migration.build()


@dataclass(slots=True)
class _Migration:
    old: Plan
    new: Plan
    frontier: Frontier
    patched: Collection[str]
    problems: list[FieldProblem] = field(default_factory=list)
    decided: list[tuple[PlanEdge, Round, bool]] = field(default_factory=list)
    """New edges out of finished nodes whose settlement is known: the edge, the round of its source,
    and whether it is taken.
    """

    def check_nodes(self) -> None:
        """Check that the nodes that have begun or are due mean the same in the new version."""
        due = [name for name, join in self.frontier.joins.items() if is_ready(self.old.nodes[name], join)]
        begun = dict.fromkeys([*filter(self._has_run, self.frontier.records), *self.frontier.held, *due])
        for node_id in begun:
            new, old = self.new.nodes.get(node_id), self.old.nodes[node_id]
            if new is None:
                message = f"node {node_id!r} has begun, but this version has no node with that id"
                self._refuse(node_id, "MISSING_NODE", message)
            elif new.spec.type != old.spec.type:
                types = f"has begun with type {old.spec.type!r}, but has type {new.spec.type!r} in this version"
                message = f"node {node_id!r} {types}"
                self._refuse(node_id, "OTHER_TYPE", message)
            elif new.loops != old.loops:
                message = f"node {node_id!r} has begun, but is in other loops in this version"
                self._refuse(node_id, "OTHER_LOOPS", message)
        for node_id in (self.frontier.joins.keys() - begun.keys()) & self.new.nodes.keys():
            if self.old.nodes[node_id].entry_loops != self.new.nodes[node_id].entry_loops:
                message = f"a node before {node_id!r} has run, but {node_id!r} is in other loops in this version"
                self._refuse(node_id, "OTHER_LOOPS", message)

    def _has_run(self, node_id: str) -> bool:
        record = self.frontier.records[node_id]
        return record.status is not NodeStatus.SKIPPED or record.visits > 0

    def check_edges(self) -> None:
        """Check that the settlement of every new edge is known or still to come."""
        known = EdgeKeys(self.old).by_key.keys()
        for key, edge in EdgeKeys(self.new).by_key.items():
            if key in known or edge.source in self.patched:
                continue
            round_ = self._finished_round(edge.source)
            if round_ is None:
                self._check_unsettled(edge)
            elif edge.kind is EdgeKind.FORWARD:
                self._check_forward(edge, round_)
            else:
                self._check_loop_edge(edge, round_)

    def _finished_round(self, source: str) -> Round | None:
        """Return the round of the source's last visit; None if it has not ended."""
        if source == START:
            return ()
        record = self.frontier.records.get(source)
        return record.round if record is not None and record.status in FINISHED else None

    def _entry_round(self, node_id: str) -> Round | None:
        """Return the entry round of a node's last visit; None if it has not begun."""
        record = self.frontier.records.get(node_id)
        return None if record is None else self.new.nodes[node_id].entry_round(record.round)

    def _check_unsettled(self, edge: PlanEdge) -> None:
        """Refuse a new edge whose source is still to run, if its target has begun without it."""
        entry_round, record = self._entry_round(edge.target), self.frontier.records.get(edge.source)
        if edge.kind is EdgeKind.BACK or entry_round is None:
            return
        if record is None or entry_round >= edge.round_at_target(record.round):
            message = f"node {edge.target!r} has begun already, without the new edge from {edge.source!r}"
            self._refuse(edge.target, "LATE_EDGE", message, edge)

    def _check_forward(self, edge: PlanEdge, round_: Round) -> None:
        """Decide a new FORWARD edge out of a finished node, unless its target has begun."""
        entry_round = self._entry_round(edge.target)
        if entry_round is not None and entry_round >= round_:
            return
        record = self.frontier.records.get(edge.source)
        if record is not None and record.status in WITHOUT_OUTPUT:
            self.decided.append((edge, round_, False))
        elif edge.port is None and edge.condition is None and (record is None or record.status is NodeStatus.COMPLETED):
            self.decided.append((edge, round_, True))
        else:
            self._refuse_undecided(edge)

    def _check_loop_edge(self, edge: PlanEdge, round_: Round) -> None:
        """Refuse a new BACK or EXIT edge out of a finished node, unless it no longer matters."""
        token_round = edge.round_at_target(round_)
        target = self.frontier.records.get(edge.target)
        if edge.kind is EdgeKind.BACK and target is not None and target.round > token_round:
            return
        entry_round = self._entry_round(edge.target)
        if edge.kind is EdgeKind.EXIT and entry_round is not None and entry_round >= token_round:
            return
        self._refuse_undecided(edge)

    def _refuse_undecided(self, edge: PlanEdge) -> None:
        message = (
            f"node {edge.source!r} has run already, and it is not known whether its new edge to {edge.target!r} "
            f"would have been taken: fork from a checkpoint before {edge.source!r}, or patch its output"
        )
        self._refuse(edge.source, "UNDECIDED_EDGE", message, edge)

    def _refuse(self, node_id: str, code: str, message: str, edge: PlanEdge | None = None) -> None:
        edge_id = None if edge is None else edge.id
        self.problems.append(FieldProblem("input.versionId", code, message, node_id=node_id, edge_id=edge_id))

    # The frontier of the new plan.

    def build(self) -> Frontier:
        """Return the records and tokens known to the new version, with decided edges settled."""
        nodes = self.new.nodes
        keys = EdgeKeys(self.new).keys
        entries: dict[str, set[PartKey]] = {
            node_id: {keys[edge.index] for edge in node.entries} for node_id, node in nodes.items()
        }
        parts: dict[str, set[PartKey]] = {
            header: {
                *(keys[edge.index] for edge in nodes[header].back_edges),
                *loop.inner,
                *(JOIN + node_id for node_id in loop.any_joins),
            }
            for header, loop in self.new.loops.items()
        }
        joins = dict(_known_joins(self.frontier.joins, entries))
        loops = dict(_known_joins(self.frontier.loops, parts))
        records = {node_id: record for node_id, record in self.frontier.records.items() if node_id in nodes}
        dead = {node_id: joins.pop(node_id) for node_id in list(joins) if self._is_dead(node_id, joins[node_id])}
        migrated = replace(self.frontier, records=records, joins=joins, loops=loops)
        position = position_of(self.new, migrated)
        apply_progress(records, position.wake())
        for edge, round_, is_taken in self.decided:
            apply_progress(records, position.settle_edges([edge], round_, [edge.index] if is_taken else []))
        for node_id, join in dead.items():
            apply_progress(records, position.skip(node_id, join.round))
        return frontier_of(position, records, migrated.held)

    def _is_dead(self, node_id: str, join: JoinTokens) -> bool:
        """Whether the join of a node has become a single entry in the new version that is dead."""
        return not (self.new.nodes[node_id].needs_barrier or join.is_consumed or any(join.taken.values()))


def _known_joins(
    joins: Mapping[str, JoinTokens], parts: Mapping[str, Collection[PartKey]]
) -> Iterator[tuple[str, JoinTokens]]:
    """Yield the joins of known nodes, with the tokens of the parts that the node has."""
    for node_id, join in joins.items():
        known = parts.get(node_id)
        if known is not None:
            taken = {key: is_taken for key, is_taken in join.taken.items() if key in known}
            if taken or join.is_consumed:
                yield node_id, replace(join, taken=taken)
