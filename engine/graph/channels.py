"""The data that LangGraph carries for a run, and the record of a node.

LangGraph keeps one input channel and its own channel of Sends, which start the nodes that are due.
The records of the nodes and the position of the run (engine.graph.position) are kept by the
executor and stored with each checkpoint. So a node costs the same in a graph of 10 nodes and in a
graph of 1,000, and a crash loses only what the journal has not committed.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from engine.graph.plan import PlanNode, Round
from engine.states import EXECUTED, NodeStatus
from engine.types import JSON

INPUT = "input"
"""The channel that starts a run."""
NODE_RECORDS = "slots"
"""The name under which a checkpoint stores the node records. It is older than the term."""

Write = tuple[str, Any]
"""A write to a channel: the name of the channel and the value."""


class Signal(NamedTuple):
    """The message of a Send to a node that it is due.

    `round` is the round of the node. In checkpoints of older releases, and in clones, it may be the
    round of the edge that led to the node; then `is_entry` is True. `held` means that a breakpoint
    has delayed the node once already.
    """

    round: Round
    held: bool = False
    is_entry: bool = False

    def round_of(self, node: PlanNode) -> Round:
        """Return the round in which the node is due."""
        return node.first_round(self.round) if self.is_entry else self.round


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """The record of one node in a run: status, number of visits, round and output.

    Status RUNNING means that the node was started beside the graph and is not settled: after a
    crash its attempt starts again. Status RETRYING means that the attempt has failed, and that an
    open wait ends when the next one is due.
    """

    status: NodeStatus
    visits: int = 0
    """The number of visits that have begun."""
    round: Round = ()
    """The round of the latest visit or skip."""
    output: JSON = None
    """The output of the latest visit that has ended, also while the node is SKIPPED."""
    visited: tuple[NodeStatus, Round] | None = None
    """The status and the round of that visit, while the node is SKIPPED."""
    undone_skip: Round | None = None
    """The round of a skip after that visit, which the end of a loop has undone."""
    attempt: int = 1
    """The number of the attempt that runs or, while the node is RETRYING, that has failed."""

    def evolve(self, **changes: Any) -> "NodeRecord":
        return replace(self, **changes)

    @property
    def latest_round(self) -> Round | None:
        """The round of the latest visit that has ended, if it is known."""
        if self.status in EXECUTED:
            return self.round
        return None if self.visited is None else self.visited[1]

    def skipped(self, round_: Round) -> "NodeRecord":
        """Return the record of the node after it was skipped in `round_`."""
        visited = (self.status, self.round) if self.status in EXECUTED else self.visited
        return NodeRecord(NodeStatus.SKIPPED, self.visits, round_, self.output, visited)

    def restored(self) -> "NodeRecord":
        """Return the record as it was after the latest visit that has ended."""
        if self.visited is None:
            return self
        status, round_ = self.visited
        return NodeRecord(status, self.visits, round_, self.output, undone_skip=self.round)

    def pack(self) -> list[Any]:
        """Convert the record to plain values, without the output: the journal stores it once."""
        packed: list[Any] = [self.status.value, self.visits, list(self.round)]
        if self.visited is not None:
            return [*packed, self.visited[0].value, list(self.visited[1])]
        if self.undone_skip is not None:
            return [*packed, list(self.undone_skip)]
        return [*packed, self.attempt] if self._has_attempt else packed

    @property
    def _has_attempt(self) -> bool:
        """Whether the number of the attempt matters, and is not the first one of a running node."""
        return self.status is NodeStatus.RETRYING or (self.status is NodeStatus.RUNNING and self.attempt > 1)


def records_from(packed: dict[str, list[Any]]) -> dict[str, NodeRecord]:
    """Convert what a checkpoint stores to records without outputs."""
    return {node_id: _unpack(*values) for node_id, values in packed.items()}


def _unpack(status: str, visits: int, round_: list[int], *more: Any) -> NodeRecord:
    record = NodeRecord(NodeStatus(status), visits, tuple(round_))
    match more:
        case [visited_status, visited_round]:
            return record.evolve(visited=(NodeStatus(visited_status), tuple(visited_round)))
        case [int(attempt)]:
            return record.evolve(attempt=attempt)
        case [undone_skip]:
            return record.evolve(undone_skip=tuple(undone_skip))
    return record
