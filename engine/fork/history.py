"""The history of a run, read from its checkpoints: past visits, and past tokens at joins and loops.

Times are numbers of checkpoints, counted from the first known one. Invalidation uses the history to
find out what was computed from a visit. Everything here is pure and stores nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.graph.channels import NODE_RECORDS, NodeRecord
from engine.graph.plan import Round
from engine.graph.position import JOIN, LOOP, Part
from engine.states import FINISHED, NodeStatus


@dataclass(slots=True)
class PastVisit:
    """One visit of a node. `began` and `ended` are checkpoints; an unfinished visit has no end."""

    visits: int
    round: Round
    status: NodeStatus
    began: int
    ended: int | None

    @property
    def record(self) -> NodeRecord:
        """The node's record after this visit.

        A visit that ended within the superstep in which the next one began was last seen running;
        it has completed, because otherwise no other visit would have followed.
        """
        status = self.status if self.status in FINISHED else NodeStatus.COMPLETED
        return NodeRecord(status, self.visits, self.round)


@dataclass(frozen=True, slots=True)
class PastToken:
    """A token that has arrived at a join or a loop. `at` is the first checkpoint that contains it.

    `part` is the index of the edge, or another part of a round of a loop.
    """

    part: Part
    round: Round
    taken: bool
    at: int


class RunHistory:
    """The history of a run up to one checkpoint.

    What happened before the first checkpoint is unknown, if the run began as a copy of another run.
    """

    def __init__(self, changes: Iterable[Mapping[str, Any]]) -> None:
        """Read the history.

        Args:
            changes: The channel values of each checkpoint in order, at least the changed ones.
        """
        self.visits: dict[str, list[PastVisit]] = {}
        """The visits of each node, oldest first."""
        self.tokens: dict[str, list[PastToken]] = {}
        """The tokens of each join and loop by its stored name, oldest first."""
        self.task_nodes: set[str] = set()
        """The nodes that ran as tasks beside the graph. Their tokens are first seen in the
        checkpoint of the superstep that the tokens start.
        """
        self._joins: dict[str, tuple[Round, dict[Part, bool]]] = {}
        for at, values in enumerate(changes):
            for node_id, record in values.get(NODE_RECORDS, {}).items():
                self._add_record(node_id, record, at)
            for name, value in values.items():
                if name.startswith((JOIN, LOOP)):
                    self._add_join(name, value, at)

    def _add_record(self, node_id: str, record: NodeRecord, at: int) -> None:
        visits = self.visits.setdefault(node_id, [])
        is_finished = record.status in FINISHED
        if not is_finished:
            self.task_nodes.add(node_id)
        last = visits[-1] if visits else None
        if last is None or (last.visits, last.round) != (record.visits, record.round):
            if last is not None and last.status is NodeStatus.SKIPPED and len(visits) > 1:
                before = visits[-2]
                if (before.visits, before.round) == (record.visits, record.round):
                    visits.pop()  # The end of a loop has restored the visit before the skip.
                    return
            if last is not None and last.ended is None:
                last.ended = at
            visits.append(PastVisit(record.visits, record.round, record.status, at, at if is_finished else None))
            return
        last.status = record.status
        if is_finished and last.ended is None:
            last.ended = at

    def _add_join(self, name: str, value: Any, at: int) -> None:
        round_, taken = tuple(value[0]), dict(value[1])
        before_round, before = self._joins.get(name, ((), {}))
        if before_round != round_:
            before = {}
        tokens = self.tokens.setdefault(name, [])
        for part, is_taken in taken.items():
            if before.get(part) is not is_taken:
                tokens.append(PastToken(part, round_, is_taken, at))
        self._joins[name] = (round_, taken)
