"""The three kinds of state in the graph: gates, which join; the slots of the nodes; and Sends, which are LangGraph's own.

A channel is all that survives a crash of a wave: what is not in one of them, or in the journal, did not happen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from langgraph._internal._typing import MISSING
from langgraph.channels.base import BaseChannel
from langgraph.errors import EmptyChannelError

from engine.graph.plan import Round
from engine.states import NodeStatus
from engine.types import JSON

JOIN_BARRIER = "gate:"
LOOP = "loop:"
NODE_RECORDS = "slots"
INPUT = "input"

Write = tuple[str, Any]
"""A write to a channel: the name of the channel and the value."""


class EdgeToken(NamedTuple):
    """An edge has settled in a round: taken, or dead because its source went another way."""

    edge: int
    round: Round
    taken: bool


class Signal(NamedTuple):
    """A node's turn: it runs if `live`, else it is skipped.

    `held`: a breakpoint put the turn off once already, and `round` is the node's own, not that of its entry.
    """

    round: Round
    live: bool
    held: bool = False


class JoinBarrier(BaseChannel[Signal, EdgeToken, list[Any]]):
    """Opens once a round, when every edge into a node is settled, or with `any_` when the first one is taken.

    Taken is sticky: a later `dead` of the same edge means nothing. A newer round starts the gate afresh, a token of an older
    one is ignored. The same token twice changes nothing, so that a replayed write is harmless.
    """

    __slots__ = ("any", "fired", "need", "round", "seen")

    def __init__(self, need: int, any_: bool = False, key: str = "") -> None:
        super().__init__(EdgeToken, key)
        self.need, self.any = need, any_
        self.round: Round = ()
        self.seen: dict[int, bool] = {}
        self.fired = False

    @property
    def ValueType(self) -> type[Signal]:  # noqa: N802 - LangGraph's name
        return Signal

    @property
    def UpdateType(self) -> type[EdgeToken]:  # noqa: N802 - LangGraph's name
        return EdgeToken

    def checkpoint(self) -> list[Any]:
        return [list(self.round), [[edge, taken] for edge, taken in self.seen.items()], self.fired]

    def from_checkpoint(self, checkpoint: Any) -> Self:
        gate = self.__class__(self.need, self.any, self.key)
        if checkpoint is not MISSING:
            round_, seen, gate.fired = checkpoint
            gate.round, gate.seen = tuple(round_), dict(seen)
        return gate

    def update(self, values: Sequence[EdgeToken]) -> bool:
        changed = False
        for edge, round_, taken in values:
            changed |= self._take(edge, tuple(round_), taken)
        return changed

    def _take(self, edge: int, round_: Round, taken: bool) -> bool:
        if round_ < self.round:
            return False
        if round_ > self.round:
            self.round, self.seen, self.fired = round_, {}, False
        before = self.seen.get(edge)
        if before is None or (taken and not before):
            self.seen[edge] = taken
            return True
        return False

    def is_available(self) -> bool:
        if self.fired:
            return False
        return len(self.seen) == self.need or (self.any and any(self.seen.values()))

    def get(self) -> Signal:
        if not self.is_available():
            raise EmptyChannelError
        return Signal(self.round, any(self.seen.values()))

    def consume(self) -> bool:
        if not self.is_available():
            return False
        self.fired = True
        return True


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node's place in the run's memory. RUNNING means launched and not settled: after a crash it is launched again."""

    status: NodeStatus
    visits: int = 0
    round: Round = ()
    output: JSON = None

    def evolve(self, **changes: Any) -> "NodeRecord":
        return replace(self, **changes)


class NodeRecords(BaseChannel[dict[str, NodeRecord], dict[str, NodeRecord], Any]):
    """Every node's slot in one channel. In memory it holds outputs; its checkpoint is the wave's change, without them:
    an output is stored once, by the journal, and put back by who loads the checkpoint.
    """

    __slots__ = ("_is_handed_out", "changed", "slots")

    def __init__(self, key: str = "") -> None:
        super().__init__(dict, key)
        self.slots: dict[str, NodeRecord] = {}
        self.changed: dict[str, NodeRecord] = {}
        self._is_handed_out = False

    @property
    def ValueType(self) -> type[dict[str, NodeRecord]]:  # noqa: N802 - LangGraph's name
        return dict

    @property
    def UpdateType(self) -> type[dict[str, NodeRecord]]:  # noqa: N802 - LangGraph's name
        return dict

    def checkpoint(self) -> Any:
        # An outside write and the wave that follows it are two updates and one checkpoint.
        self._is_handed_out = True
        return {node: [slot.status, slot.visits, list(slot.round)] for node, slot in self.changed.items()}

    def from_checkpoint(self, checkpoint: Any) -> Self:
        """Takes the live slots as they are: the run's memory goes on from one invocation to the next."""
        channel = self.__class__(self.key)
        if checkpoint is not MISSING:
            channel.slots = checkpoint
        return channel

    def update(self, values: Sequence[dict[str, NodeRecord]]) -> bool:
        if self._is_handed_out:
            self.changed, self._is_handed_out = {}, False
        for value in values:
            self.changed.update(value)
        self.slots.update(self.changed)
        return bool(values)

    def get(self) -> dict[str, NodeRecord]:
        return self.slots

    def is_available(self) -> bool:
        """Never: nobody is triggered by it, and LangGraph need not touch it in a step that does not write it."""
        return False


def records_from(delta: dict[str, list[Any]]) -> dict[str, NodeRecord]:
    """What a checkpoint of Slots says, as slots without outputs."""
    return {
        node: NodeRecord(NodeStatus(status), visits, tuple(round_)) for node, (status, visits, round_) in delta.items()
    }
