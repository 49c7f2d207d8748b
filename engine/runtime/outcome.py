"""How a run ends, or stops before its end: the change of its status, with the output or the error that goes with it.

Pure: nothing is changed here, and nothing is stored before the ledger has it.
"""

from dataclasses import dataclass

from engine.errors import NodeFailure
from engine.events import RunError
from engine.expressions import evaluator
from engine.graph.channels import NodeRecord
from engine.graph.compiler import CompiledGraph
from engine.runtime.node_context import scope_of
from engine.runtime.ports import RunChange
from engine.runtime.run_info import RunInfo, StopReason
from engine.runtime.run_state import RunState
from engine.runtime.stop import StopControl
from engine.states import EXECUTED, RunStatus
from engine.types import JSON
from engine.values.storable import check_storable


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The ends that one run may come to. `expected` is how its row stands, as far as is known."""

    info: RunInfo
    compiled: CompiledGraph
    memory: RunState

    def completed(self, expected: RunStatus) -> RunChange:
        output, error = self._output()
        if error is not None:
            return RunChange(RunStatus.FAILED, expected, error.message, None, error)
        return RunChange(RunStatus.COMPLETED, expected, None, output)

    def stopped(self, stopping: StopControl, *, has_more: bool) -> RunChange:
        """`has_more`: something of the run is still to be done. Without it a run that was to pause is over instead."""
        stop, failure, expected = stopping.stop, stopping.failure, stopping.stands
        if stop is StopReason.CANCEL:
            return RunChange(RunStatus.CANCELLED, expected)
        if stop is StopReason.TIMEOUT:
            failure = RunError("TIMEOUT", f"the run did not finish within {self.info.timeout_s} s", retryable=True)
        if failure is not None:
            return RunChange(RunStatus.FAILED, expected, failure.message, None, failure)
        if not has_more:
            return self.completed(expected)
        if stop in (StopReason.PAUSE, StopReason.BREAK):
            return RunChange(RunStatus.PAUSED, expected, self._why_paused(stop))
        return RunChange(RunStatus.QUEUED, expected, "Handed back: the worker is stopping")

    def _why_paused(self, stop: StopReason | None) -> str:
        if stop is not StopReason.BREAK:
            return "Paused"
        return "Paused after a step" if self.info.is_step else "Paused at a breakpoint"

    def _output(self) -> tuple[JSON, RunError | None]:
        """The spec's `outputs`; else the output of the `end` node; else those of the nodes that no edge leaves."""
        spec, plan, slots = self.compiled.spec, self.compiled.plan, self.memory.slots
        if spec.outputs is not None:
            scope = scope_of(self.info.id, self.info.inputs, slots, list(plan.nodes), self.info.names)
            try:
                return _checked({name: evaluator.render(template, scope) for name, template in spec.outputs.items()})
            except evaluator.ExpressionError as wrong:
                return None, RunError("TEMPLATE", f"outputs: {wrong}")
        ended = [
            node.id
            for node in spec.nodes
            if self.compiled.works[node.id].type.ends_run and _has_run(slots.get(node.id))
        ]
        if len(ended) == 1:
            return slots[ended[0]].output, None
        leaves = ended or [node_id for node_id in plan.leaves if _has_run(slots.get(node_id))]
        return _checked({node_id: slots[node_id].output for node_id in leaves})


def _checked(output: JSON) -> tuple[JSON, RunError | None]:
    """Each part may be as large as a node's output; the whole may be no larger than one."""
    try:
        check_storable(output)
    except NodeFailure as wrong:
        return None, RunError(wrong.code, f"outputs: {wrong.message}")
    return output, None


def _has_run(slot: NodeRecord | None) -> bool:
    return slot is not None and slot.status in EXECUTED
