"""The stretches of a run: the limits of one, and its steps, so that each visit in it has a checkpoint.

A stretch is a sequence of visits of inline nodes that run at the start of a run, after a result or in
one superstep, and are committed as one entry. Its checkpoint is stored once, together with its steps;
the checkpoints between two visits are derived from them (persistence/events/steps.py). A crash loses
the whole stretch, and the next claim repeats it: inline nodes are pure.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter

from engine.graph.channels import NODE_RECORDS
from engine.graph.plan import Round
from engine.graph.position import Position
from engine.isolation.loop_share import loop_share
from engine.runtime.ports import CheckpointStep
from engine.runtime.run_state import RunState

YIELD_S = 0.005
"""The time in seconds after which a stretch lets other tasks of the event loop run."""
MAX_S, MAX_WAIT_S = 0.05, 0.2
"""The times in seconds after which a stretch ends, so that its events are committed: its own time, and
that with the waits for its turn."""
MAX_VISITS = 250
"""The number of visits after which a stretch ends. It limits the size of an entry. The id of a
checkpoint has place for 1,023 steps.
"""


class StretchLimit:
    """The limits of one stretch. They keep the event loop free, and live readers up to date."""

    def __init__(self) -> None:
        self._share = loop_share()
        self._visits, self._spent_s = 0, 0.0
        self._began = self._resumed = perf_counter()
        self.has_yielded = False

    async def count_visit(self) -> None:
        """Count a visit. Let others run after YIELD_S, or if the runs have used this pass of the loop."""
        self._visits += 1
        spent_s = perf_counter() - self._resumed
        if spent_s >= YIELD_S or self._share.is_used_up:
            await asyncio.sleep(0)
            await self._share.turn()
            self._spent_s, self._resumed, self.has_yielded = self._spent_s + spent_s, perf_counter(), True

    @property
    def is_reached(self) -> bool:
        is_late = self._resumed - self._began >= MAX_WAIT_S
        return self._visits >= MAX_VISITS or self._spent_s >= MAX_S or is_late


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
