"""Takes back what was computed from a node's last turn: turns that it led to, and the tokens that they and it sent out.

What does not depend on it stays as it was. Which turn led to which is told by their rounds, and where rounds do not tell
(exits, back edges, `join: any`) by the checkpoint that first shows a token. Pure: nothing here is stored.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from engine.fork.frontier import Edges, Frontier, JoinState, entry_of, passed
from engine.fork.history import PastToken, PastVisit, RunHistory
from engine.graph.channels import JOIN_BARRIER, LOOP
from engine.graph.plan import EdgeKind, Plan, PlanEdge, PlanNode, Round, is_joined_by_any
from engine.states import NodeStatus

Found = tuple[str, int]
"""A node and the number of its first turn that has to go."""


class Dependent(Exception):
    """`node_id` is computed from `root`, and both were to stay."""

    def __init__(self, node_id: str, root: str) -> None:
        super().__init__(f"{node_id!r} is computed from {root!r}")
        self.node_id, self.root = node_id, root


class Unknown(Exception):
    """What `node_id` was before is not known: the run began as a copy, in the middle of a loop."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self.node_id = node_id


class Invalidation:
    """What follows from the last turns of `roots`. Raises Dependent where one root follows from another, and Unknown."""

    def __init__(self, plan: Plan, past: RunHistory, roots: Collection[str]) -> None:
        self._plan, self._past, self._roots = plan, past, roots
        self.first: dict[str, int] = {}
        """By node: the number of its first turn that has to go."""
        self._gone: dict[str, set[int]] = {}
        """By channel: the numbers of the tokens that have to go."""
        self._found_by: dict[str, set[str]] = {}
        for root in roots:
            self._spread(root)

    def _spread(self, root: str) -> None:
        number = len(self._past.turns[root]) - 1
        turn = self._past.turns[root][number]
        if turn.began == 0 and any(turn.round):
            raise Unknown(root)  # which tokens are of this round, and which of an earlier one?
        work: list[Found] = [(root, number)]
        while work:
            node_id, number = work.pop()
            for found, first in self._after(self._plan.nodes[node_id], self._turn(root, node_id, number)):
                if found in self._roots:
                    raise Dependent(found, root)
                self._found_by.setdefault(found, set()).add(root)
                if first < self.first.get(found, len(self._past.turns[found])):
                    self.first[found] = first
                    work.append((found, first))

    def _turn(self, root: str, node_id: str, number: int) -> PastVisit:
        """From where all of this node has to go: in a copy, turns before the first known one are of it."""
        turn = self._past.turns[node_id][number]
        if node_id == root or turn.began or self._may_have_stayed(node_id):
            return turn
        return replace(turn, round=(0,) * len(turn.round), ended=0)

    def _after(self, node: PlanNode, turn: PastVisit) -> Iterator[Found]:
        """The turns that this one led to, its tokens marked as gone."""
        if turn.ended is None:
            return
        for edge in node.out:
            if edge.kind is EdgeKind.BACK:
                yield from self._after_back(edge, turn)
            elif edge.kind is EdgeKind.EXIT:
                yield from self._after_exit(edge, turn)
            else:
                yield from self._after_forward(edge, turn)

    def _after_forward(self, edge: PlanEdge, turn: PastVisit) -> Iterator[Found]:
        target = self._plan.nodes[edge.target]
        came = self._take(JOIN_BARRIER + target.id, edge, lambda token: token.round >= turn.round)
        is_outside = edge.source in self._past.launched
        is_any = target.needs_gate and is_joined_by_any(target)
        for number, next_ in enumerate(self._past.turns.get(target.id, ())):
            entry = entry_of(target, next_.round)
            if entry < turn.round or (is_any and entry == turn.round and not _led_to(came, next_, is_outside)):
                continue
            yield target.id, number
            return

    def _after_exit(self, edge: PlanEdge, turn: PastVisit) -> Iterator[Found]:
        at = edge.round_at_target(turn.round)
        came = self._take(
            JOIN_BARRIER + edge.target, edge, lambda token: token.taken and token.round >= at and _is_of(token, turn)
        )
        yield from self._entered(edge, at, came, edge.source in self._past.launched)

    def _after_back(self, edge: PlanEdge, turn: PastVisit) -> Iterator[Found]:
        at, header = edge.round_at_target(turn.round), self._plan.nodes[edge.target]
        came = self._take(LOOP + header.id, edge, lambda token: token.round >= at and _is_of(token, turn))
        for number, next_ in enumerate(self._past.turns.get(header.id, ())):
            if next_.round > at:
                yield header.id, number
                break
        for token in came:
            for exit_ in header.exits:
                yield from self._after_loop(exit_, exit_.round_at_target(token.round), token)

    def _after_loop(self, exit_: PlanEdge, at: Round, last: PastToken) -> Iterator[Found]:
        """What followed because the loop was over, and its exits dead."""
        came = self._take(
            JOIN_BARRIER + exit_.target,
            exit_,
            lambda token: not token.taken and token.round >= at and token.at >= last.at,
        )
        yield from self._entered(exit_, at, came, is_outside=False)

    def _entered(self, edge: PlanEdge, at: Round, came: list[PastToken], is_outside: bool) -> Iterator[Found]:
        target = self._plan.nodes[edge.target]
        for number, next_ in enumerate(self._past.turns.get(target.id, ()) if came else ()):
            if entry_of(target, next_.round) >= at and _led_to(came, next_, is_outside):
                yield target.id, number
                return

    def _take(self, channel: str, edge: PlanEdge, goes: Callable[[PastToken], bool]) -> list[PastToken]:
        """Marks the tokens of this edge that have to go, and returns them."""
        found = []
        for number, token in enumerate(self._past.tokens.get(channel, ())):
            if token.edge == edge.index and goes(token):
                self._gone.setdefault(channel, set()).add(number)
                found.append(token)
        return found

    # What is left.

    def rest(self, frontier: Frontier) -> Frontier:
        """The frontier without all that."""
        edges = Edges(self._plan)
        result = Frontier(dict(frontier.slots), dict(frontier.doors), dict(frontier.loops), dict(frontier.held))
        for node_id, number in self.first.items():
            self._put_back(result, node_id, number)
        for channel in self._gone:
            self._reopen(edges, result, channel)
        for node_id in {*self.first, *self._roots}:
            self._reopen_only(edges, result, node_id)
        return result

    def _put_back(self, result: Frontier, node_id: str, number: int) -> None:
        turns = self._past.turns[node_id]
        gone = turns[number]
        if number:
            result.slots[node_id] = turns[number - 1].slot
        elif gone.visits > (0 if gone.status is NodeStatus.SKIPPED else 1) and self._may_have_stayed(node_id):
            raise Unknown(node_id)
        else:
            del result.slots[node_id]
        result.held.pop(node_id, None)

    def _may_have_stayed(self, node_id: str) -> bool:
        """Whether turns that are not known came before those of the roots: in an earlier round of a loop around both."""
        loops = self._plan.nodes[node_id].loops
        for root in self._found_by[node_id]:
            shared = sum(one == other for one, other in zip(loops, self._plan.nodes[root].loops, strict=False))
            if not any(self._past.turns[root][-1].round[:shared]):
                return False
        return True

    def _reopen(self, edges: Edges, result: Frontier, channel: str) -> None:
        """A gate without the tokens that are gone. It is passed where its node's turn is left."""
        doors, node_id = result.loops if channel.startswith(LOOP) else result.doors, channel.split(":", 1)[1]
        gone = self._gone[channel]
        door: JoinState | None = None
        for number, token in enumerate(self._past.tokens[channel]):
            if number not in gone:
                door = (door or JoinState(token.round, {}, False)).take(
                    edges.keys[token.edge], token.round, token.taken
                )
        doors.pop(node_id, None)
        if (held := result.held.get(node_id)) is not None:
            last = held if channel.startswith(LOOP) else entry_of(self._plan.nodes[node_id], held)
            if any(self._past.tokens[channel][number].round <= last for number in gone):
                del result.held[node_id]
        if door is not None:
            doors[node_id] = replace(door, is_passed=self._had_turn(result, channel, node_id, door.round))

    def _had_turn(self, result: Frontier, channel: str, node_id: str, round_: Round) -> bool:
        slot = result.slots.get(node_id)
        latest = result.held.get(node_id, slot.round if slot else None)
        if latest is None:
            return False
        return latest > round_ if channel.startswith(LOOP) else entry_of(self._plan.nodes[node_id], latest) >= round_

    def _reopen_only(self, edges: Edges, result: Frontier, node_id: str) -> None:
        """The doors of nodes without a gate that follow on `node_id`."""
        turns = self._past.turns[node_id]
        since = turns[self.first.get(node_id, len(turns) - 1)].round
        for edge in self._plan.nodes[node_id].out:
            target = self._plan.nodes[edge.target]
            door = result.doors.get(target.id)
            if edge.kind is EdgeKind.BACK or target.needs_gate or door is None or door.round < since:
                continue
            result.held.pop(target.id, None)
            slot = result.slots.get(target.id)
            if slot is None:
                del result.doors[target.id]
            else:
                result.doors[target.id] = passed(target, edges, slot)


def _is_of(token: PastToken, turn: PastVisit) -> bool:
    """Whether this turn sent the token, and not an earlier one in the same round of an outer loop."""
    return turn.ended is not None and token.at >= turn.ended


def _led_to(came: list[PastToken], next_: PastVisit, is_outside: bool) -> bool:
    """Whether `next_` began after one of these tokens. One from outside of waves is seen in the wave that it starts."""
    return any(next_.began > token.at or (next_.began == token.at and (is_outside or not token.at)) for token in came)
