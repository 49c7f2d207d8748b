"""The steps of a stretch: what each visit in it has changed, so that each has a checkpoint.

A stretch is a sequence of visits of inline nodes that run at the start of a run, after a result or in
one superstep, and are committed as one entry. Its checkpoint is stored once, together with its steps;
the checkpoints between two visits are derived from them (persistence/events/steps.py). A crash loses
the whole stretch, and the next claim repeats it: inline nodes are pure.
"""

from collections.abc import Sequence

from engine.graph.channels import NODE_RECORDS
from engine.graph.plan import Round
from engine.graph.position import Position
from engine.runtime.ports import CheckpointStep
from engine.runtime.run_state import RunState


class StepRecorder:
    """Records the steps of one run since the last checkpoint.

    `is_enabled` is False for a run whose checkpoints nobody can read.
    """

    def __init__(self, state: RunState, position: Position, *, is_enabled: bool) -> None:
        self._state, self._position, self._is_enabled = state, position, is_enabled
        self._steps: list[CheckpointStep] = []
        self._due: dict[str, Round] = {}
        self._has_settled = False

    def begin_visit(self, node_id: str) -> None:
        """Note that a visit of a due node begins."""
        self._due.pop(node_id, None)

    def settle(self, due: Sequence[tuple[str, Round]]) -> None:
        """Note that a visit has settled, and which nodes are due because of it."""
        self._has_settled = True
        self._due.update(due)

    def end_step(self) -> None:
        """End the step of the visits that have settled. Another visit of the stretch follows."""
        if not (self._is_enabled and self._has_settled):
            return
        records, changes = self._state.take_changes(is_full=False), self._position.take_changes(is_full=False)
        values = {NODE_RECORDS: records, **changes}
        self._steps.append(CheckpointStep(len(self._state.events), values, list(self._due.items())))
        self._due, self._has_settled = {}, False

    def take(self) -> list[CheckpointStep]:
        """Return the steps since the last call. The step that has not ended is the checkpoint."""
        steps, self._steps = self._steps, []
        self._due, self._has_settled = {}, False
        return steps
