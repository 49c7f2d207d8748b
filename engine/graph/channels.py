"""The channels of a compiled graph: join barriers, loop barriers and the records of the nodes.

Sends are LangGraph's own channel and need no class here. Channels and the journal are all that
survives a crash in a superstep. The values of the channel prefixes are stored in checkpoints, so
they never change.
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
"""Prefix of the channel of a join barrier; the id of the node follows."""
LOOP = "loop:"
"""Prefix of the channel of a loop barrier; the id of the header follows."""
NODE_RECORDS = "slots"
"""The channel of the node records."""
INPUT = "input"
"""The channel that starts a run."""

Write = tuple[str, Any]
"""A write to a channel: the name of the channel and the value."""


class EdgeToken(NamedTuple):
    """The message that an edge was settled in a round: taken, or dead."""

    edge: int
    round: Round
    taken: bool


class Signal(NamedTuple):
    """The message to a node that it is due: it runs if `live`, else it is skipped.

    `round` is the round of the entries. `held` means that a breakpoint has delayed the node once
    already; then `round` is the round of the node itself.
    """

    round: Round
    live: bool
    held: bool = False


class JoinBarrier(BaseChannel[Signal, EdgeToken, list[Any]]):
    """A channel that opens once for each round, when all its edges are settled.

    With `any_` it opens when the first edge is taken. A taken edge stays taken: a later dead token
    of the same round changes nothing. A token of a newer round resets the barrier; a token of an
    older round is ignored. Equal tokens change nothing, so a replayed write is harmless. The same
    class serves as the loop barrier of a header, over its BACK edges.
    """

    __slots__ = ("any", "fired", "need", "round", "seen")

    def __init__(self, need: int, any_: bool = False, key: str = "") -> None:
        """`need` is the number of edges."""
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
        barrier = self.__class__(self.need, self.any, self.key)
        if checkpoint is not MISSING:
            round_, seen, barrier.fired = checkpoint
            barrier.round, barrier.seen = tuple(round_), dict(seen)
        return barrier

    def update(self, values: Sequence[EdgeToken]) -> bool:
        changed = False
        for edge, round_, taken in values:
            changed |= self._add(edge, tuple(round_), taken)
        return changed

    def _add(self, edge: int, round_: Round, taken: bool) -> bool:
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
    """The record of one node in a run: status, number of visits, round and output.

    `output` is that of the last visit that has ended. Status RUNNING means that the node was
    started beside the graph and is not settled: after a crash it is started again.
    """

    status: NodeStatus
    visits: int = 0
    round: Round = ()
    output: JSON = None

    def evolve(self, **changes: Any) -> "NodeRecord":
        return replace(self, **changes)


class NodeRecords(BaseChannel[dict[str, NodeRecord], dict[str, NodeRecord], Any]):
    """The channel with the records of all nodes.

    In memory it holds all records with their outputs. Its checkpoint is the change of the
    superstep without outputs: the journal stores each output once, and the loader of a checkpoint
    restores them. So a checkpoint does not grow with the graph.
    """

    __slots__ = ("_is_checkpointed", "changed", "records")

    def __init__(self, key: str = "") -> None:
        super().__init__(dict, key)
        self.records: dict[str, NodeRecord] = {}
        self.changed: dict[str, NodeRecord] = {}
        self._is_checkpointed = False

    @property
    def ValueType(self) -> type[dict[str, NodeRecord]]:  # noqa: N802 - LangGraph's name
        return dict

    @property
    def UpdateType(self) -> type[dict[str, NodeRecord]]:  # noqa: N802 - LangGraph's name
        return dict

    def checkpoint(self) -> Any:
        # An outside write and the superstep after it are two updates but one checkpoint.
        self._is_checkpointed = True
        return {node: [record.status, record.visits, list(record.round)] for node, record in self.changed.items()}

    def from_checkpoint(self, checkpoint: Any) -> Self:
        """Share the live records object, so that it outlives one invocation of the graph."""
        channel = self.__class__(self.key)
        if checkpoint is not MISSING:
            channel.records = checkpoint
        return channel

    def update(self, values: Sequence[dict[str, NodeRecord]]) -> bool:
        if self._is_checkpointed:
            self.changed, self._is_checkpointed = {}, False
        for value in values:
            self.changed.update(value)
        self.records.update(self.changed)
        return bool(values)

    def get(self) -> dict[str, NodeRecord]:
        return self.records

    def is_available(self) -> bool:
        """Return False, so that the channel triggers no node.

        LangGraph skips it in steps that do not write to it.
        """
        return False


def records_from(delta: dict[str, list[Any]]) -> dict[str, NodeRecord]:
    """Convert the checkpoint value of NodeRecords to records without outputs."""
    return {
        node: NodeRecord(NodeStatus(status), visits, tuple(round_)) for node, (status, visits, round_) in delta.items()
    }
