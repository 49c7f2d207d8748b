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
    """One visit or one skip of a node.

    `began` and `ended` are checkpoints; an unfinished visit has no end.
    """

    visits: int
    round: Round
    status: NodeStatus
    began: int
    ended: int | None
    is_undone: bool = False
    """Whether the end of a loop has undone a skip, so that the visit before it shows again."""

    @property
    def final_status(self) -> NodeStatus:
        """The status with which the visit ended.

        A visit that ended within the superstep in which the next one began was last seen running;
        it has completed, because otherwise no other visit would have followed.
        """
        return self.status if self.status in FINISHED else NodeStatus.COMPLETED


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

    def last_visit(self, node_id: str) -> int:
        """Return the index of the last visit of a node that is not a skip; -1 if it has none."""
        return self._visit_before(node_id, len(self.visits[node_id]))

    def _visit_before(self, node_id: str, index: int) -> int:
        visits = self.visits[node_id]
        return next((at for at in range(index - 1, -1, -1) if visits[at].status is not NodeStatus.SKIPPED), -1)

    def record_after(self, node_id: str, index: int) -> NodeRecord:
        """Return the record of a node after one of its visits or skips, without the output."""
        visit = self.visits[node_id][index]
        if visit.status is not NodeStatus.SKIPPED:
            return NodeRecord(visit.final_status, visit.visits, visit.round)
        before = self._visit_before(node_id, index)
        if before < 0:
            return NodeRecord(NodeStatus.SKIPPED, visit.visits, visit.round)
        record = self.record_after(node_id, before).skipped(visit.round)
        return record.restored() if self._is_undone(node_id, index, record) else record

    def _is_undone(self, node_id: str, index: int, skipped: NodeRecord) -> bool:
        """Whether the end of a loop undid a skip before the next visit or skip began.

        It did if a loop was over in between, and had been entered before the visit that shows
        again. The first counter that has changed tells which loops were over: those inside it.
        """
        visits, visited = self.visits[node_id], skipped.latest_round
        if index + 1 == len(visits):
            return visits[index].is_undone
        pairs = zip(skipped.round, visits[index + 1].round, strict=True)
        same = next((at for at, (one, other) in enumerate(pairs) if one != other), len(skipped.round))
        is_over = same + 1 < len(skipped.round)
        return is_over and visited is not None and visited[: same + 1] == skipped.round[: same + 1]

    def _add_record(self, node_id: str, record: NodeRecord, at: int) -> None:
        visits = self.visits.setdefault(node_id, [])
        if record.undone_skip is None:
            self._add_visit(node_id, record, record.round, at)
            return
        last = self.last_visit(node_id)
        if last < 0 or (visits[last].visits, visits[last].round) != (record.visits, record.round):
            self._add_visit(node_id, record, record.round, at)
        self._add_visit(node_id, record.evolve(status=NodeStatus.SKIPPED), record.undone_skip, at)
        visits[-1].is_undone = True

    def _add_visit(self, node_id: str, record: NodeRecord, round_: Round, at: int) -> None:
        visits = self.visits.setdefault(node_id, [])
        is_finished = record.status in FINISHED
        if not is_finished:
            self.task_nodes.add(node_id)
        last = visits[-1] if visits else None
        if last is None or (last.visits, last.round) != (record.visits, round_):
            if last is not None and last.ended is None:
                last.ended = at
            visits.append(PastVisit(record.visits, round_, record.status, at, at if is_finished else None))
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
