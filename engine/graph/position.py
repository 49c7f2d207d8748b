"""The position of a run in its graph: the settled edges, the nodes that are due, the skipped nodes.

A position is a fold over the settled visits of a run, in the order of their events. The scheduler,
a resumed run, a derived checkpoint and a fork all compute it here, so that they cannot disagree.
Pure: nothing here is stored or awaited. Joins follow dead-path elimination (WS-BPEL 2.0, section
12.5.1), applied once in each round of each loop: see docs/loops.md.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.graph.channels import NodeRecord
from engine.graph.plan import Plan, PlanEdge, PlanNode, Round
from engine.states import IN_PROGRESS, NodeStatus

JOIN = "gate:"
"""Prefix of the stored name of a join; the id of the node follows. It never changes."""
LOOP = "loop:"
"""Prefix of the stored name of a loop; the id of the header follows. It never changes."""

Part = int | str
"""What a round of a loop waits for: a BACK edge by its index, an inner loop by the id of its header,
or a node with `join: any` by its stored name. The header of an inner loop may join by `any` as well.
"""
_Settlements = Iterator[tuple[PlanEdge, Round, bool]]
"""Edges that settle: each with its round at the target, and whether it is taken."""


@dataclass(slots=True)
class JoinState:
    """The entries of one node that have settled in `round`: by index, whether they were taken.

    `is_fired` is True if the node was started or skipped in this round.
    """

    round: Round = ()
    taken: dict[int, bool] = field(default_factory=dict)
    is_fired: bool = False


@dataclass(slots=True)
class LoopState:
    """The parts of one round of a loop that have settled, and whether each of them was taken.

    `is_over` is True if all parts have settled, and the next round or what follows the loop has
    begun.
    """

    round: Round = ()
    taken: dict[Part, bool] = field(default_factory=dict)
    is_over: bool = False


@dataclass(slots=True)
class Progress:
    """What one settled visit leads to. Each list is in the order in which it happened."""

    due: list[tuple[str, Round]] = field(default_factory=list)
    """The nodes to start, with the round of the node."""
    skipped: list[tuple[str, Round]] = field(default_factory=list)
    """The nodes that no edge has reached in a round, with the round of the node."""
    restored: list[str] = field(default_factory=list)
    """The nodes that were skipped in the last round of a loop that is over now. They show their
    latest visit again.
    """


class Position:
    """The position of one run. It changes in place."""

    __slots__ = ("_changed", "_latest", "_skipped", "active", "joins", "loops", "plan")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.joins: dict[str, JoinState] = {}
        """By node, for nodes that join their entries."""
        self.loops: dict[str, LoopState] = {}
        """By header."""
        self.active: dict[str, Round] = {}
        """The nodes that are due, running or waiting, with the round of that visit."""
        self._latest: dict[str, Round] = {}
        """The round of each node's latest settled visit."""
        self._skipped: dict[str, Round] = {}
        """The nodes that were skipped since their latest visit."""
        self._changed: set[str] = set()
        """Stored names of the joins and loops that have changed since the last `take_changes`."""

    # The run.

    def begin(self, taken: Collection[int]) -> Progress:
        """Settle the edges of `__start__`. `taken` are the indexes of the taken ones."""
        return self.settle_edges(self.plan.starts, (), taken)

    def settle(self, node_id: str, taken: Collection[int]) -> Progress:
        """Settle the visit of an active node.

        Args:
            node_id: The node.
            taken: The indexes of the edges by which it leaves.

        Raises:
            KeyError: The node is not active.
        """
        round_ = self.active.pop(node_id)
        self._latest[node_id] = round_
        self._skipped.pop(node_id, None)
        return self.settle_edges(self.plan.nodes[node_id].out, round_, taken)

    def cancel(self, node_id: str) -> Progress:
        """Settle the visit of an active node that was cancelled: it leaves by no edge.

        The node shows no output until its next visit ends, also at the end of a loop.

        Raises:
            KeyError: The node is not active.
        """
        round_ = self.active.pop(node_id)
        self._latest.pop(node_id, None)
        self._skipped.pop(node_id, None)
        return self.settle_edges(self.plan.nodes[node_id].out, round_, ())

    def has_passed(self, node_id: str, entry: Round) -> bool:
        """Whether a join of this node in the round `entry`, or in a later one, has fired.

        Then another taken edge of the round `entry` does not start the node.
        """
        join = self.joins.get(node_id)
        return join is not None and (join.round, join.is_fired) >= (entry, True)

    def has_run(self, node_id: str) -> bool:
        """Whether a visit of the node has ended by itself."""
        return node_id in self._latest

    def wake(self) -> Progress:
        """Start and skip what the stored joins and loops decide, if nothing has acted on it yet.

        A position that was stored whole has nothing of the kind. A head that was copied, or that an
        older release has left, may have complete joins that have not fired, and loops whose round
        is complete and not over.
        """
        progress = Progress()
        for node_id in [name for name in self.plan.nodes if name in self.joins]:
            node, join = self.plan.nodes[node_id], self.joins[node_id]
            is_live = any(join.taken.values())
            if not join.is_fired and (len(join.taken) == len(node.entries) or (node.joins_any and is_live)):
                join.is_fired = True
                self._changed.add(JOIN + node_id)
                self._run(self._enter(node, join.round, is_live, progress), progress)
        for header in list(self.loops):
            loop = self.loops[header]
            if not loop.is_over and len(loop.taken) == self.plan.loops[header].part_count:
                self._run(self._end_round(header, loop, progress), progress)
        return progress

    def is_skipped(self, node_id: str) -> bool:
        """Whether the node was skipped since its latest visit, so that templates see no output."""
        return node_id in self._skipped

    # For forks, and for heads of older releases.

    def settle_edges(self, edges: Iterable[PlanEdge], round_: Round, taken: Collection[int]) -> Progress:
        """Settle some edges of a node whose visit or skip in `round_` is settled already."""
        progress = Progress()
        self._run([_settlements(((edge, edge.index in taken) for edge in edges), round_)], progress)
        return progress

    def skip(self, node_id: str, entry: Round) -> Progress:
        """Skip a node that joins nothing and was entered by a dead edge in the round `entry`."""
        progress = Progress()
        self._run(self._enter(self.plan.nodes[node_id], entry, False, progress), progress)
        return progress

    def deliver(self, index: int, round_: Round, taken: bool) -> Progress:
        """Settle one edge by its index, in the round of its target's join or loop."""
        progress = Progress()
        edge = next(edge for edge in self._edges() if edge.index == index)
        self._run(self._deliver(edge, round_, taken, progress), progress)
        return progress

    def _edges(self) -> Iterator[PlanEdge]:
        yield from self.plan.starts
        for node in self.plan.nodes.values():
            yield from node.out

    # The stored form: the channel values of a checkpoint.

    @property
    def has_changes(self) -> bool:
        """Whether joins or loops have changed since the last `take_changes`."""
        return bool(self._changed)

    def take_changes(self, *, is_full: bool) -> dict[str, Any]:
        """Return the joins and loops that have changed since the last call, by stored name.

        Args:
            is_full: Return all of them instead.
        """
        changed, self._changed = self._changed, set()
        if is_full:
            changed = {*(JOIN + name for name in self.joins), *(LOOP + name for name in self.loops)}
        return {name: self._value(name) for name in sorted(changed)}

    def _value(self, name: str) -> list[Any]:
        """Return a join or a loop as plain values: its round, its parts and whether it is done."""
        kind, _, node_id = name.partition(":")
        if kind + ":" == JOIN:
            join = self.joins[node_id]
            return [list(join.round), [[edge, taken] for edge, taken in join.taken.items()], join.is_fired]
        loop = self.loops[node_id]
        return [list(loop.round), [[part, taken] for part, taken in loop.taken.items()], loop.is_over]

    def load(self, values: Mapping[str, Any], records: Mapping[str, NodeRecord], due: Mapping[str, Round]) -> None:
        """Adopt a stored position.

        Args:
            values: The channel values of a checkpoint, with joins and loops by their stored names.
            records: The record of each node.
            due: The nodes that a Send starts, with the round of that visit.
        """
        for name, value in values.items():
            kind, _, node_id = name.partition(":")
            if kind + ":" == JOIN and node_id in self.plan.nodes:
                self.joins[node_id] = JoinState(tuple(value[0]), dict(value[1]), value[2])
            elif kind + ":" == LOOP and node_id in self.plan.loops:
                self.loops[node_id] = LoopState(tuple(value[0]), dict(value[1]), value[2])
        for node_id, record in records.items():
            if record.status in IN_PROGRESS:
                self.active[node_id] = record.round
            if record.latest_round is not None:
                self._latest[node_id] = record.latest_round
            if record.status is NodeStatus.SKIPPED and record.visits:
                self._skipped[node_id] = record.round
        self.active.update(due)
        self._add_missing_parts()

    def _add_missing_parts(self) -> None:
        """Add the parts of loops that older releases did not store.

        These are inner loops that are over, and complete nodes with `join: any`.
        """
        for header, loop in self.plan.loops.items():
            for inner in loop.inner:
                state = self.loops.get(inner)
                if state is not None and state.is_over and not any(state.taken.values()):
                    self._add_part(header, inner, state.round[:-1])
            for node_id in loop.any_joins:
                join = self.joins.get(node_id)
                if join is not None and len(join.taken) == len(self.plan.nodes[node_id].entries):
                    self._add_part(header, JOIN + node_id, join.round)

    def _add_part(self, header: str, part: Part, round_: Round) -> None:
        loop = self.loops.get(header)
        if loop is None or loop.round < round_:
            loop = self.loops[header] = LoopState(round_)
        if loop.round == round_ and not loop.is_over:
            loop.taken.setdefault(part, False)

    # The rules of docs/loops.md.

    def _run(self, pending: list[_Settlements], progress: Progress) -> None:
        """Deliver edges that settle, and the edges that settle because of them, to the last one."""
        while pending:
            settlement = next(pending[-1], None)
            if settlement is None:
                pending.pop()
                continue
            edge, at, taken = settlement
            pending += self._deliver(edge, at, taken, progress)

    def _deliver(self, edge: PlanEdge, at: Round, taken: bool, progress: Progress) -> list[_Settlements]:
        """Deliver one settled edge to its target. Return the edges that settle because of it."""
        if edge.closes:
            return self._end_part(edge.target, edge.index, at, taken, progress)
        target = self.plan.nodes[edge.target]
        if not target.needs_barrier:
            return self._enter(target, at, taken, progress)
        return self._join(target, edge, at, taken, progress)

    def _join(self, target: PlanNode, edge: PlanEdge, at: Round, taken: bool, progress: Progress) -> list[_Settlements]:
        """Add a settled entry to a join. A newer round resets the join, an older one is ignored."""
        join = self.joins.get(target.id)
        if join is None or at > join.round:
            join = self.joins[target.id] = JoinState(at)
        elif at < join.round:
            return []
        before = join.taken.get(edge.index)
        if before is not None and (before or not taken):
            return []
        join.taken[edge.index] = taken
        self._changed.add(JOIN + target.id)
        pending: list[_Settlements] = []
        is_complete = len(join.taken) == len(target.entries)
        if is_complete and before is None and target.entry_loops:
            header = target.entry_loops[-1]
            if target.id in self.plan.loops[header].any_joins:
                pending += self._end_part(header, JOIN + target.id, at, False, progress)
        if not join.is_fired and (is_complete or (target.joins_any and taken)):
            join.is_fired = True
            pending += self._enter(target, at, any(join.taken.values()), progress)
        return pending

    def _enter(self, target: PlanNode, at: Round, is_live: bool, progress: Progress) -> list[_Settlements]:
        """Start a node, or skip it. Return the edges that settle because it is skipped."""
        round_ = target.first_round(at)
        if is_live:
            self._make_due(target.id, round_, progress)
            return []
        progress.skipped.append((target.id, round_))
        self._skipped[target.id] = round_
        return [_settlements(((edge, False) for edge in target.out), round_)]

    def _end_part(self, header: str, part: Part, at: Round, taken: bool, progress: Progress) -> list[_Settlements]:
        """Settle one part of a loop's round. After the last part the round is over."""
        loop = self.loops.get(header)
        if loop is None or at > loop.round:
            loop = self.loops[header] = LoopState(at)
        elif at < loop.round or loop.is_over:
            return []
        loop.taken[part] = taken or loop.taken.get(part, False)
        self._changed.add(LOOP + header)
        if len(loop.taken) < self.plan.loops[header].part_count:
            return []
        return self._end_round(header, loop, progress)

    def _end_round(self, header: str, loop: LoopState, progress: Progress) -> list[_Settlements]:
        """Begin the next round of a loop, or end the loop if no BACK edge was taken."""
        loop.is_over, at, plan = True, loop.round, self.plan.loops[header]
        self._changed.add(LOOP + header)
        if any(loop.taken.values()):
            self._make_due(header, (*at[:-1], at[-1] + 1), progress)
            return []
        self._restore(plan.body, at[:-1], progress)
        exits = iter([(edge, at[: edge.shared], False) for edge in plan.exits])
        if plan.parent is None:
            return [exits]
        return [exits, *self._end_part(plan.parent, header, at[:-1], False, progress)]

    def _restore(self, body: Iterable[str], entry: Round, progress: Progress) -> None:
        """Show the latest visit of skipped nodes again, if it was since the loop was entered."""
        for node_id in body:
            latest = self._latest.get(node_id)
            if node_id in self._skipped and latest is not None and latest[: len(entry)] == entry:
                del self._skipped[node_id]
                progress.restored.append(node_id)

    def _make_due(self, node_id: str, round_: Round, progress: Progress) -> None:
        assert node_id not in self.active, f"{node_id} is due in round {round_} and active in {self.active[node_id]}"
        self.active[node_id] = round_
        progress.due.append((node_id, round_))


def _settlements(edges: Iterable[tuple[PlanEdge, bool]], round_: Round) -> _Settlements:
    """Yield the edges of one node that settle now: the taken ones, and those that leave no loop.

    Taken edges come first. What the others lead to may end a loop, and its exits that were never
    taken are dead then.
    """
    for edge, taken in sorted(edges, key=lambda pair: not pair[1]):
        if taken or not edge.leaves:
            yield edge, edge.round_at_target(round_), taken
