"""A run's past as its checkpoints tell it: the turns that nodes have had, and when which token came in at which gate.

"When" is the number of the checkpoint, counted from the first one that is known. Pure: nothing here is stored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.graph.channels import JOIN_BARRIER, LOOP, NODE_RECORDS, NodeRecord
from engine.graph.plan import Round
from engine.states import FINISHED, NodeStatus


@dataclass(slots=True)
class PastVisit:
    """One turn of a node. `ended` is None while it is still under way."""

    visits: int
    round: Round
    status: NodeStatus
    began: int
    ended: int | None

    @property
    def slot(self) -> NodeRecord:
        """The node's slot after this turn. One that ended and began anew within a wave was last seen running."""
        status = self.status if self.status in FINISHED else NodeStatus.COMPLETED
        return NodeRecord(status, self.visits, self.round)


@dataclass(frozen=True, slots=True)
class PastToken:
    """A token that came in at a gate. `at` is the checkpoint that first shows it."""

    edge: int
    round: Round
    taken: bool
    at: int


class RunHistory:
    """Up to one checkpoint. What came before the first of them, in a run that began as a copy, is not known."""

    def __init__(self, changes: Iterable[Mapping[str, Any]]) -> None:
        """`changes` are the channel values of the checkpoints in their order: the changed ones at least."""
        self.turns: dict[str, list[PastVisit]] = {}
        self.tokens: dict[str, list[PastToken]] = {}
        self.launched: set[str] = set()
        """Nodes that end outside of waves: what they send is seen with the wave that it starts."""
        self._gates: dict[str, tuple[Round, dict[int, bool]]] = {}
        for at, values in enumerate(changes):
            for node_id, slot in values.get(NODE_RECORDS, {}).items():
                self._turn(node_id, slot, at)
            for channel, value in values.items():
                if channel.startswith((JOIN_BARRIER, LOOP)):
                    self._gate(channel, value, at)

    def _turn(self, node_id: str, slot: NodeRecord, at: int) -> None:
        turns = self.turns.setdefault(node_id, [])
        is_over = slot.status in FINISHED
        if not is_over:
            self.launched.add(node_id)
        last = turns[-1] if turns else None
        if last is None or (last.visits, last.round) != (slot.visits, slot.round):
            if last is not None and last.ended is None:
                last.ended = at
            turns.append(PastVisit(slot.visits, slot.round, slot.status, at, at if is_over else None))
            return
        last.status = slot.status
        if is_over and last.ended is None:
            last.ended = at

    def _gate(self, channel: str, value: Any, at: int) -> None:
        round_, seen = tuple(value[0]), dict(value[1])
        before_round, before = self._gates.get(channel, ((), {}))
        if before_round != round_:
            before = {}
        tokens = self.tokens.setdefault(channel, [])
        for edge, taken in seen.items():
            if before.get(edge) is not taken:
                tokens.append(PastToken(edge, round_, taken, at))
        self._gates[channel] = (round_, seen)
