"""Which active nodes of a run have no effect any more, because a `join: any` has fired.

This is a liveness analysis, as compilers do it for variables: a node is live if something that can
still run depends on it. The scheduler cancels the others, so that a run ends with its first answer.
Pure: a function of the plan, the position and the templates. docs/loops.md has the rules.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from engine.expressions.evaluator import references
from engine.graph.bound_node import BoundNode, texts_of
from engine.graph.plan import Plan, Round
from engine.graph.position import Position
from engine.spec.model import Spec

LATER = 1 << 62
"""The counter of any later round of a loop. It is greater than every counter of a run."""
_Place = tuple[str, Round]
"""A node, and a round in which it may run."""


class Superfluous(NamedTuple):
    """An active node to cancel, and the join that has gone on without it."""

    node_id: str
    join_id: str


@dataclass(frozen=True, slots=True)
class _Outlook:
    """What the end of an active node may lead to.

    `nodes` are the node itself and all nodes that may start because of it, `fired` the joins at
    which its paths end because they have fired. `joined` are those of `nodes` that another taken
    edge enters as well, so that they run whatever the node does.
    """

    nodes: frozenset[str]
    fired: tuple[str, ...]
    joined: frozenset[str]


class Liveness:
    """The liveness of the nodes of one compiled graph. It holds no state of a run."""

    def __init__(self, spec: Spec, plan: Plan, bound_nodes: Mapping[str, BoundNode]) -> None:
        self._spec, self._plan, self._bound_nodes = spec, plan, bound_nodes
        self.cancels_others = any(node.cancels_others for node in plan.nodes.values())
        """Whether a join of the graph has the option `cancelOthers`."""

    def find_superfluous(
        self, position: Position, waiting: Collection[str], running: Collection[str]
    ) -> list[Superfluous]:
        """Find the nodes to cancel.

        Args:
            position: The position of the run.
            waiting: The nodes that wait for a time or an answer.
            running: The nodes that run, or wait for another run. Only a join with `cancelOthers`
                cancels these.
        """
        found = {name: join for name in (*waiting, *running) if (join := self._cancelling_join(position, name))}
        candidates: dict[str, _Outlook] = {}
        for node_id in waiting:
            outlook = self._outlook(position, node_id)
            if node_id not in found and outlook.fired and self._is_passive(position, outlook, node_id):
                candidates[node_id] = outlook
        unread = self._without_readers(position, candidates, found)
        return [Superfluous(*pair) for pair in found.items()] + [
            Superfluous(node_id, candidates[node_id].fired[0]) for node_id in unread
        ]

    def cancelling_join(self, position: Position, node_id: str) -> str | None:
        """Return the join with `cancelOthers` that has made a due node superfluous."""
        return self._cancelling_join(position, node_id)

    def _cancelling_join(self, position: Position, node_id: str) -> str | None:
        """Return a fired join with `cancelOthers`, if all paths from an active node end at joins that have fired."""
        if not self.cancels_others:
            return None
        outlook = self._outlook(position, node_id)
        if any(not self._plan.nodes[name].out for name in outlook.nodes):
            return None
        return next((name for name in outlook.fired if self._plan.nodes[name].cancels_others), None)

    def _is_passive(self, position: Position, outlook: _Outlook, node_id: str) -> bool:
        """Whether the nodes behind a node only compute values: nothing outside notices them."""
        return all(
            self._bound_nodes[name].type.inline
            and not self._bound_nodes[name].type.ends_run
            and (self._plan.nodes[name].out or not self._is_output(position))
            for name in outlook.nodes
            if name != node_id
        )

    def _is_output(self, position: Position) -> bool:
        """Whether the outputs of nodes that no edge leaves are the output of the run."""
        if self._spec.outputs is not None:
            return False
        return not any(node.type.ends_run and position.has_run(name) for name, node in self._bound_nodes.items())

    def _without_readers(
        self, position: Position, candidates: Mapping[str, _Outlook], cancelled: Collection[str]
    ) -> list[str]:
        """Return the candidates that no node which can still run, and no output, refers to.

        A candidate that another one may read stays only as long as the other one stays.
        """
        unread = [name for name, outlook in candidates.items() if not outlook.nodes & self._names_in_outputs]
        while unread:
            gone = {*unread, *cancelled}
            readers = self._reachable(position, (name for name in position.active if name not in gone))
            readers |= {name for candidate in unread for name in candidates[candidate].joined}
            read = frozenset[str]().union(*(self._bound_nodes[name].names for name in readers))
            still_unread = [name for name in unread if not candidates[name].nodes & read]
            if still_unread == unread:
                break
            unread = still_unread
        return unread

    @cached_property
    def _names_in_outputs(self) -> frozenset[str]:
        """The nodes that the `outputs` of the spec refer to."""
        names: set[str] = set()
        for text in texts_of(self._spec.outputs):
            names |= references(text)
        return frozenset(self._plan.nodes if "nodes" in names else names)

    def _outlook(self, position: Position, node_id: str) -> _Outlook:
        fired: dict[str, None] = {}
        joined: set[str] = set()
        nodes: set[str] = set()
        for name, round_ in self._places(position, [node_id], fired):
            nodes.add(name)
            node, join = self._plan.nodes[name], position.joins.get(name)
            if join is not None and name != node_id and join.round == node.entry_round(round_):
                joined |= {name} if any(join.taken.values()) else set()
        return _Outlook(frozenset(nodes), tuple(fired), frozenset(joined))

    def _reachable(self, position: Position, node_ids: Iterable[str]) -> set[str]:
        """Return active nodes, and all nodes that may start because of them."""
        return {name for name, _ in self._places(position, node_ids, {})}

    def _places(self, position: Position, node_ids: Iterable[str], fired: dict[str, None]) -> Iterator[_Place]:
        """Yield the places to which the ends of active nodes may lead, these nodes first.

        Adds the joins at which a path ends, because they have fired, to `fired`.
        """
        places = [(name, position.active[name]) for name in node_ids]
        seen = set(places)
        for name, round_ in places:  # grows
            yield name, round_
            for edge in self._plan.nodes[name].out:
                target, at = self._plan.nodes[edge.target], edge.round_at_target(round_)
                if not edge.closes and target.needs_barrier and position.has_passed(target.id, at):
                    fired[target.id] = None
                    continue
                place = (target.id, (*at[:-1], LATER) if edge.closes else target.first_round(at))
                if place not in seen:
                    seen.add(place)
                    places.append(place)
