"""A frontier carried over to another version's plan: checked first, and refused with all that does not fit.

Nodes map by their ids, edges by their ends and port. Pure: nothing here is stored.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from engine.fork.frontier import Edges, Frontier, JoinState, entry_of, is_open
from engine.fork.patch import PatchRefused, Settling
from engine.graph.plan import EdgeKind, Plan, PlanEdge, PlanNode, Round
from engine.problems import FieldProblem
from engine.spec.model import START
from engine.states import FINISHED, NodeStatus


def migrate_frontier(old: Plan, new: Plan, frontier: Frontier, patched: Collection[str] = ()) -> Frontier:
    """The edges of `patched` nodes are left alone: they are settled anew. Raises Refused."""
    refit = _Migration(old, new, frontier, patched)
    refit.check_nodes()
    if not refit.problems:
        refit.check_edges()
    if refit.problems:
        raise PatchRefused(refit.problems)
    return refit.carried()


@dataclass(slots=True)
class _Migration:
    old: Plan
    new: Plan
    frontier: Frontier
    patched: Collection[str]
    problems: list[FieldProblem] = field(default_factory=list)
    decided: list[tuple[PlanEdge, Round, bool]] = field(default_factory=list)
    """New edges out of nodes that are done, whose settlement can be told: with their round, and whether they are taken."""

    def check_nodes(self) -> None:
        """Nodes that have had a turn, or are due one, must be there and mean the same."""
        due = [name for name, door in self.frontier.doors.items() if is_open(self.old.nodes[name], door)]
        begun = dict.fromkeys([*filter(self._has_run, self.frontier.slots), *self.frontier.held, *due])
        for node_id in begun:
            there, here = self.new.nodes.get(node_id), self.old.nodes[node_id]
            if there is None:
                self._refuse(
                    node_id, "MISSING_NODE", f"node {node_id!r} has begun, and this version has none of that id"
                )
            elif there.spec.type != here.spec.type:
                message = (
                    f"node {node_id!r} has begun as a {here.spec.type!r}, and is a {there.spec.type!r} in this version"
                )
                self._refuse(node_id, "OTHER_TYPE", message)
            elif there.loops != here.loops:
                self._refuse(
                    node_id, "OTHER_LOOPS", f"node {node_id!r} has begun, and is in other loops in this version"
                )
        for node_id in (self.frontier.doors.keys() - begun.keys()) & self.new.nodes.keys():
            if _around(self.old.nodes[node_id]) != _around(self.new.nodes[node_id]):
                message = f"what leads to node {node_id!r} has run, and it is in other loops in this version"
                self._refuse(node_id, "OTHER_LOOPS", message)

    def _has_run(self, node_id: str) -> bool:
        slot = self.frontier.slots[node_id]
        return slot.status is not NodeStatus.SKIPPED or slot.visits > 0

    def check_edges(self) -> None:
        known = Edges(self.old).by_key.keys()
        for key, edge in Edges(self.new).by_key.items():
            if key in known or edge.source in self.patched:
                continue
            round_ = self._done_in(edge.source)
            if round_ is None:
                self._check_coming(edge)
            elif edge.kind is EdgeKind.FORWARD:
                self._check_forward(edge, round_)
            else:
                self._check_loop_edge(edge, round_)

    def _done_in(self, source: str) -> Round | None:
        """The round of the source's last turn, if that has ended."""
        if source == START:
            return ()
        slot = self.frontier.slots.get(source)
        return slot.round if slot is not None and slot.status in FINISHED else None

    def _entered(self, node_id: str) -> Round | None:
        """The round at its door in which a node had its last turn."""
        slot = self.frontier.slots.get(node_id)
        return None if slot is None else entry_of(self.new.nodes[node_id], slot.round)

    def _check_coming(self, edge: PlanEdge) -> None:
        """Its source is to run yet: does its target wait for it?"""
        entered, slot = self._entered(edge.target), self.frontier.slots.get(edge.source)
        if edge.kind is EdgeKind.BACK or entered is None:
            return
        if slot is None or entered >= edge.round_at_target(slot.round):
            message = f"node {edge.target!r} has begun already, without the new edge from {edge.source!r}"
            self._refuse(edge.target, "LATE_EDGE", message, edge)

    def _check_forward(self, edge: PlanEdge, round_: Round) -> None:
        """Its source is done: if its target is not, it must be clear whether this edge was taken."""
        entered = self._entered(edge.target)
        if entered is not None and entered >= round_:
            return
        slot = self.frontier.slots.get(edge.source)
        if slot is not None and slot.status is NodeStatus.SKIPPED:
            self.decided.append((edge, round_, False))
        elif edge.port is None and edge.condition is None and (slot is None or slot.status is NodeStatus.COMPLETED):
            self.decided.append((edge, round_, True))
        else:
            self._undecided(edge)

    def _check_loop_edge(self, edge: PlanEdge, round_: Round) -> None:
        at = edge.round_at_target(round_)
        header = self.frontier.slots.get(edge.target)
        if edge.kind is EdgeKind.BACK and header is not None and header.round > at:
            return
        entered = self._entered(edge.target)
        if edge.kind is EdgeKind.EXIT and entered is not None and entered >= at:
            return
        self._undecided(edge)

    def _undecided(self, edge: PlanEdge) -> None:
        message = (
            f"node {edge.source!r} has run already, and nothing tells whether it left by its new edge to {edge.target!r}: "
            f"fork from a checkpoint before it, or patch its output"
        )
        self._refuse(edge.source, "UNDECIDED_EDGE", message, edge)

    def _refuse(self, node_id: str, code: str, message: str, edge: PlanEdge | None = None) -> None:
        edge_id = None if edge is None else edge.id
        self.problems.append(FieldProblem("input.versionId", code, message, node_id=node_id, edge_id=edge_id))

    # What fits.

    def carried(self) -> Frontier:
        kept = Edges(self.new).by_key.keys()
        doors = dict(_of_kept(self.frontier.doors, kept, self.new.nodes))
        loops = dict(_of_kept(self.frontier.loops, kept, {n.id: n for n in self.new.nodes.values() if n.is_header}))
        slots = {node_id: slot for node_id, slot in self.frontier.slots.items() if node_id in self.new.nodes}
        carried = replace(self.frontier, slots=slots, doors=doors, loops=loops)
        settling = Settling.of(self.new, carried)
        for edge, round_, is_taken in self.decided:
            settling.settle([edge], round_, [edge.index] if is_taken else [])
        self._skip_dead(settling)
        return carried

    def _skip_dead(self, settling: Settling) -> None:
        """Nodes that joined in the old version, have one entry in the new one, and that one is dead."""
        for node_id, door in list(settling.frontier.doors.items()):
            node = self.new.nodes[node_id]
            if not node.needs_gate and not door.is_passed and not any(door.seen.values()):
                round_ = node.first_round(door.round)
                settling.skip(node, round_)
                settling.settle(node.out, round_, ())


def _around(node: PlanNode) -> tuple[str, ...]:
    """The loops that a node's door counts."""
    return node.loops[:-1] if node.is_header else node.loops


def _of_kept(
    doors: Mapping[str, JoinState], kept: Collection[object], nodes: Mapping[str, PlanNode]
) -> Iterator[tuple[str, JoinState]]:
    for node_id, door in doors.items():
        seen = {key: taken for key, taken in door.seen.items() if key in kept}
        if node_id in nodes and (seen or door.is_passed):
            yield node_id, replace(door, seen=seen)
