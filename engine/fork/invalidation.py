"""Invalidate what was computed from the last visit of a node: later visits and their tokens.

Everything that does not depend on it stays. Rounds show which visit led to which. Where they
do not (EXIT and BACK edges, `join: any`), the first checkpoint that contains a token decides.
The result is a new frontier: everything here is pure and stores nothing.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from engine.fork.frontier import EdgeKeys, Frontier, JoinTokens, PartKey, consumed_join
from engine.fork.history import PastToken, PastVisit, RunHistory
from engine.graph.plan import EdgeKind, Plan, PlanEdge, PlanNode, Round
from engine.graph.position import JOIN, LOOP, Part
from engine.states import NodeStatus

VisitRef = tuple[str, int]
"""A node and the index of one of its visits in the history."""


class DependentRoot(Exception):
    """Both `node_id` and `root` were to stay, but `node_id` was computed from `root`."""

    def __init__(self, node_id: str, root: str) -> None:
        super().__init__(f"{node_id!r} is computed from {root!r}")
        self.node_id, self.root = node_id, root


class HistoryUnknown(Exception):
    """The earlier visits of `node_id` are unknown: the run began as a copy inside a loop."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self.node_id = node_id


class Invalidation:
    """The visits and tokens that were computed from the last visits of `roots`.

    Raises:
        DependentRoot: One root was computed from another.
        HistoryUnknown: The history does not contain what was computed from a root.
    """

    def __init__(self, plan: Plan, history: RunHistory, roots: Collection[str]) -> None:
        self._plan, self._history, self._roots = plan, history, roots
        self.first: dict[str, int] = {}
        """By node: the index of its first invalid visit. All later ones are invalid as well."""
        self._invalid_tokens: dict[str, set[int]] = {}
        """By stored name of a join or a loop: the indexes of the invalid tokens."""
        self._reached_from: dict[str, set[str]] = {}
        """By node: the roots that its invalid visits were computed from."""
        self._reopened: set[str] = set()
        """The nodes that were cancelled because of an invalid token. Their visits start again."""
        for root in roots:
            self._spread(root)

    def _spread(self, root: str) -> None:
        """Follow the edges from the last visit of a root, over all visits that it led to."""
        index = self._history.last_visit(root)
        visit = self._history.visits[root][index]
        if visit.began == 0 and any(visit.round):
            raise HistoryUnknown(root)  # Tokens of this round and of earlier rounds look the same.
        pending: list[VisitRef] = [(root, index)]
        reopened = set(self._reopened)
        while pending:
            node_id, index = pending.pop()
            for target_id, first in self._after(self._plan.nodes[node_id], self._visit(root, node_id, index)):
                if target_id in self._roots and first <= self._history.last_visit(target_id):
                    raise DependentRoot(target_id, root)
                self._reached_from.setdefault(target_id, set()).add(root)
                if first < self.first.get(target_id, len(self._history.visits[target_id])):
                    self.first[target_id] = first
                    pending.append((target_id, first))
            for cancelled in self._reopened - reopened:
                reopened.add(cancelled)
                pending.append((cancelled, self._history.last_visit(cancelled)))

    def _visit(self, root: str, node_id: str, index: int) -> PastVisit:
        """Return a visit, extended to the unknown visits before it if these are invalid too.

        In a copy, the visits before the first known one are unknown. An extended visit begins in
        the first round and ends in the first checkpoint.
        """
        visit = self._history.visits[node_id][index]
        if node_id == root or visit.began or self._may_have_valid_visits(node_id):
            return visit
        return replace(visit, round=(0,) * len(visit.round), ended=0)

    def _after(self, node: PlanNode, visit: PastVisit) -> Iterator[VisitRef]:
        """Yield the first visit that this visit led to by each edge; mark its tokens as invalid."""
        if visit.ended is None:
            return
        for edge in node.out:
            if edge.kind is EdgeKind.BACK:
                yield from self._after_back(edge, visit)
            elif edge.kind is EdgeKind.EXIT:
                yield from self._after_exit(edge, visit)
            else:
                yield from self._after_forward(edge, visit)

    def _after_forward(self, edge: PlanEdge, visit: PastVisit) -> Iterator[VisitRef]:
        target = self._plan.nodes[edge.target]
        tokens = self._invalidate(JOIN + target.id, edge.index, lambda token: token.round >= visit.round)
        is_task = edge.source in self._history.task_nodes
        is_any = target.needs_barrier and target.joins_any
        if is_any and tokens:
            self._reopen(target.id, min(token.at for token in tokens))
        for token in tokens if is_any and target.entry_loops else ():
            yield from self._after_part(target.entry_loops[-1], JOIN + target.id, token.round, token)
        for index, later in enumerate(self._history.visits.get(target.id, ())):
            entry = target.entry_round(later.round)
            if entry < visit.round or (is_any and entry == visit.round and not _led_to(tokens, later, is_task)):
                continue
            yield target.id, index
            return

    def _reopen(self, join_id: str, since: int) -> None:
        """Reopen the nodes that were cancelled since a checkpoint and could lead to a `join: any`."""
        for node_id, visits in self._history.visits.items():
            last = visits[-1]
            is_later = last.ended is not None and last.ended >= since
            if is_later and last.status is NodeStatus.CANCELLED and join_id in self._successors(node_id):
                self._reopened.add(node_id)

    def _successors(self, node_id: str) -> set[str]:
        """Return all nodes to which a path leads from a node."""
        found, pending = set[str](), [node_id]
        while pending:
            for edge in self._plan.nodes[pending.pop()].out:
                if edge.target not in found:
                    found.add(edge.target)
                    pending.append(edge.target)
        return found

    def _after_exit(self, edge: PlanEdge, visit: PastVisit) -> Iterator[VisitRef]:
        round_ = edge.round_at_target(visit.round)
        tokens = self._invalidate(
            JOIN + edge.target,
            edge.index,
            lambda token: token.taken and token.round >= round_ and _is_sent_by(token, visit),
        )
        yield from self._entered(edge, round_, tokens, edge.source in self._history.task_nodes)

    def _after_back(self, edge: PlanEdge, visit: PastVisit) -> Iterator[VisitRef]:
        round_, header = edge.round_at_target(visit.round), edge.target
        tokens = self._invalidate(
            LOOP + header, edge.index, lambda token: token.round >= round_ and _is_sent_by(token, visit)
        )
        yield from self._after_parts(header, round_, tokens)

    def _after_parts(self, header: str, round_: Round, tokens: list[PastToken]) -> Iterator[VisitRef]:
        """Yield the visits that followed because parts of a loop's rounds had settled.

        They began the next round, or came after the end of the loop.
        """
        for index, later in enumerate(self._history.visits.get(header, ()) if tokens else ()):
            if later.round > round_:
                yield header, index
                break
        loop = self._plan.loops[header]
        for token in tokens:
            for exit_ in loop.exits:
                yield from self._after_loop(exit_, exit_.round_at_target(token.round), token)
            if loop.parent is not None:
                yield from self._after_part(loop.parent, header, token.round[:-1], token)

    def _after_part(self, header: str, part: Part, round_: Round, last: PastToken) -> Iterator[VisitRef]:
        """Yield the visits that followed because an inner loop, or a join by `any`, had settled."""
        tokens = self._invalidate(LOOP + header, part, lambda token: token.round >= round_ and token.at >= last.at)
        yield from self._after_parts(header, round_, tokens)

    def _after_loop(self, exit_: PlanEdge, round_: Round, last: PastToken) -> Iterator[VisitRef]:
        """Yield the visits that followed because a loop was over, and its exit dead."""
        tokens = self._invalidate(
            (LOOP if exit_.closes else JOIN) + exit_.target,
            exit_.index,
            lambda token: not token.taken and token.round >= round_ and token.at >= last.at,
        )
        if exit_.closes:
            yield from self._after_parts(exit_.target, round_, tokens)
        else:
            yield from self._entered(exit_, round_, tokens, is_task=False)

    def _entered(self, edge: PlanEdge, round_: Round, tokens: list[PastToken], is_task: bool) -> Iterator[VisitRef]:
        """Yield the first visit of the edge's target that one of the tokens led to."""
        target = self._plan.nodes[edge.target]
        for index, later in enumerate(self._history.visits.get(target.id, ()) if tokens else ()):
            if target.entry_round(later.round) >= round_ and _led_to(tokens, later, is_task):
                yield target.id, index
                return

    def _invalidate(self, name: str, part: Part, is_invalid: Callable[[PastToken], bool]) -> list[PastToken]:
        """Mark tokens of a join or a loop as invalid, and return them."""
        invalid = []
        for index, token in enumerate(self._history.tokens.get(name, ())):
            if token.part == part and is_invalid(token):
                self._invalid_tokens.setdefault(name, set()).add(index)
                invalid.append(token)
        return invalid

    # The frontier without the invalid visits and tokens.

    def apply(self, frontier: Frontier) -> Frontier:
        """Return the frontier without the invalid visits and tokens.

        Raises:
            HistoryUnknown: An invalid visit was preceded by visits that are unknown.
        """
        edges = EdgeKeys(self._plan)
        result = Frontier(dict(frontier.records), dict(frontier.joins), dict(frontier.loops), dict(frontier.held))
        for node_id, index in self.first.items():
            self._restore_record(result, node_id, index)
        for node_id in self._reopened - self.first.keys():
            result.records[node_id] = result.records[node_id].evolve(status=NodeStatus.RUNNING)
        for name in self._invalid_tokens:
            self._rebuild_join(edges, result, name)
        self._redo_skips(result)
        for node_id in {*self.first, *self._roots, *self._reopened}:
            self._reset_targets_without_barrier(edges, result, node_id)
        return result

    def _restore_record(self, result: Frontier, node_id: str, index: int) -> None:
        """Restore the record of a node from before its first invalid visit."""
        visits = self._history.visits[node_id]
        invalid = visits[index]
        visits_of_first = 0 if invalid.status is NodeStatus.SKIPPED else 1
        if index:
            result.records[node_id] = self._history.record_after(node_id, index - 1)
        elif invalid.visits > visits_of_first and self._may_have_valid_visits(node_id):
            raise HistoryUnknown(node_id)
        else:
            del result.records[node_id]
        result.held.pop(node_id, None)

    def _may_have_valid_visits(self, node_id: str) -> bool:
        """Whether unknown visits of a node may have come before those of the roots that reach it.

        This needs an earlier round of a loop around both the node and the root.
        """
        loops = self._plan.nodes[node_id].loops
        for root in self._reached_from[node_id]:
            shared = sum(one == other for one, other in zip(loops, self._plan.nodes[root].loops, strict=False))
            if not any(self._history.visits[root][self._history.last_visit(root)].round[:shared]):
                return False
        return True

    def _rebuild_join(self, edges: EdgeKeys, result: Frontier, name: str) -> None:
        """Rebuild a join or a loop from its valid tokens.

        It is consumed if the visit that it led to is still there.
        """
        joins, node_id = result.loops if name.startswith(LOOP) else result.joins, name.split(":", 1)[1]
        invalid, tokens = self._invalid_tokens[name], self._history.tokens[name]
        join: JoinTokens | None = None
        for index, token in enumerate(tokens):
            if index not in invalid:
                before = join or JoinTokens(token.round, {}, False)
                join = before.add(_part_key(edges, token), token.round, token.taken)
        joins.pop(node_id, None)
        if (held := result.held.get(node_id)) is not None:
            last = held if name.startswith(LOOP) else self._plan.nodes[node_id].entry_round(held)
            if any(tokens[index].round <= last for index in invalid):
                del result.held[node_id]
        if join is not None:
            joins[node_id] = replace(join, is_consumed=self._has_begun(result, name, node_id, join.round))

    def _redo_skips(self, result: Frontier) -> None:
        """Skip nodes again whose skip was undone by the end of a loop that is not over any more."""
        for node_id, record in result.records.items():
            skip = record.undone_skip
            if skip is None:
                continue
            loops = (
                (depth, result.loops.get(header)) for depth, header in enumerate(self._plan.nodes[node_id].loops, 1)
            )
            if not any(loop and (loop.round, loop.is_consumed) >= (skip[:depth], True) for depth, loop in loops):
                result.records[node_id] = record.skipped(skip)

    def _has_begun(self, result: Frontier, name: str, node_id: str, round_: Round) -> bool:
        """Whether the visit for a round of this join has begun, or a breakpoint holds it."""
        record = result.records.get(node_id)
        latest = result.held.get(node_id, record.round if record else None)
        if latest is None:
            return False
        if name.startswith(LOOP):
            return latest > round_
        return self._plan.nodes[node_id].entry_round(latest) >= round_

    def _reset_targets_without_barrier(self, edges: EdgeKeys, result: Frontier, node_id: str) -> None:
        """Reset the joins of the nodes behind `node_id` that have no barrier."""
        index = self.first[node_id] if node_id in self.first else self._history.last_visit(node_id)
        since = self._history.visits[node_id][index].round
        for edge in self._plan.nodes[node_id].out:
            target = self._plan.nodes[edge.target]
            join = result.joins.get(target.id)
            if edge.kind is EdgeKind.BACK or target.needs_barrier or join is None or join.round < since:
                continue
            result.held.pop(target.id, None)
            record = result.records.get(target.id)
            if record is None:
                del result.joins[target.id]
            else:
                result.joins[target.id] = consumed_join(target, edges, record)


def _part_key(edges: EdgeKeys, token: PastToken) -> PartKey:
    return token.part if isinstance(token.part, str) else edges.keys[token.part]


def _is_sent_by(token: PastToken, visit: PastVisit) -> bool:
    """Whether this visit sent the token, not an earlier one in the same round of an outer loop."""
    return visit.ended is not None and token.at >= visit.ended


def _led_to(tokens: list[PastToken], later: PastVisit, is_task: bool) -> bool:
    """Whether a visit began after one of these tokens.

    A visit is first seen one checkpoint after its token. A skip is first seen with its token, and
    so are a visit after the token of a task and a visit in the first checkpoint of a copy.
    """
    is_same = is_task or later.status is NodeStatus.SKIPPED
    return any(later.began > token.at or (later.began == token.at and (is_same or not token.at)) for token in tokens)
