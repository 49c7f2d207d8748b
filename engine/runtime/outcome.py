"""The status change that ends a claimed run, with its output or error.

Pure functions of the state of the run: nothing changes and nothing is stored before the commit
buffer has the status change. The executor calls them.
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
from engine.values.large_values import off_loop
from engine.values.storable import stored_form

STORAGE_LIMIT = (
    "the run has stored as many bytes of outputs, events and checkpoints as a run may (TREADLE_RUN_STORAGE_MB): "
    "give nodes smaller outputs, or divide the work into several runs"
)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Computes the status change that ends a run, or releases it before its end."""

    info: RunInfo
    compiled: CompiledGraph
    state: RunState

    def completed(self, expected: RunStatus) -> RunChange:
        """Return the change to COMPLETED; to FAILED if the output of the run cannot be computed.

        Args:
            expected: The last known status of the run's row.
        """
        output, error = self._output()
        if error is not None:
            return RunChange(RunStatus.FAILED, expected, error.message, None, error)
        return RunChange(RunStatus.COMPLETED, expected, None, output)

    def stopped(self, stop: StopControl, *, has_more: bool) -> RunChange:
        """Return the change for a run that was stopped.

        Args:
            stop: The stop requests.
            has_more: Whether a part of the run is still to be executed. Without it, a run that was
                to pause or to be released is completed instead.
        """
        reason, failure, expected = stop.reason, stop.failure, stop.run_status
        if reason is StopReason.CANCEL:
            return RunChange(RunStatus.CANCELLED, expected)
        if reason is StopReason.TIMEOUT:
            failure = RunError("TIMEOUT", f"the run did not finish within {self.info.timeout_s} s", retryable=True)
        if reason is StopReason.STORAGE:
            failure = RunError("STORAGE_LIMIT", STORAGE_LIMIT)
        if failure is not None:
            return RunChange(RunStatus.FAILED, expected, failure.message, None, failure)
        if not has_more:
            return self.completed(expected)
        if reason in (StopReason.PAUSE, StopReason.BREAK):
            return RunChange(RunStatus.PAUSED, expected, self._pause_message(reason))
        return RunChange(RunStatus.QUEUED, expected, "Released: the worker is stopping")

    def _pause_message(self, reason: StopReason | None) -> str:
        if reason is not StopReason.BREAK:
            return "Paused"
        return "Paused after a step" if self.info.is_step else "Paused at a breakpoint"

    def _output(self) -> tuple[JSON, RunError | None]:
        """Return the output of the run, or the error for which there is none.

        The output is that of the spec's `outputs`; else that of the node that ends the run; else
        those of the nodes that no edge leaves, by id.
        """
        spec, plan, records = self.compiled.spec, self.compiled.plan, self.state.records
        if spec.outputs is not None:
            scope = scope_of(self.info.id, self.info.inputs, records, list(plan.nodes), self.info.outer_names)
            try:
                return _checked({name: evaluator.render(template, scope) for name, template in spec.outputs.items()})
            except evaluator.ExpressionError as error:
                return None, RunError("TEMPLATE", f"outputs: {error}")
        bound_nodes = self.compiled.bound_nodes
        ends = [node.id for node in spec.nodes if bound_nodes[node.id].type.ends_run and _has_run(records.get(node.id))]
        if len(ends) == 1:
            return records[ends[0]].output, None
        node_ids = ends or [node_id for node_id in plan.leaves if _has_run(records.get(node_id))]
        return _checked({node_id: records[node_id].output for node_id in node_ids})


def _checked(output: JSON) -> tuple[JSON, RunError | None]:
    """Check a combined output: the whole may be no larger than the output of one node."""
    try:
        return off_loop(stored_form, output), None
    except NodeFailure as failure:
        return None, RunError(failure.code, f"outputs: {failure.message}")


def _has_run(record: NodeRecord | None) -> bool:
    return record is not None and record.status in EXECUTED
