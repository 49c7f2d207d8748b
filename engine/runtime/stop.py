"""Why a run stops before its end, and the last known status of its row.

Only the failure is durable: it goes with the next commit. After a crash the next worker reads all
other requests from the run's row again.
"""

from langgraph.runtime import RunControl

from engine.errors import NodeInterrupted
from engine.events import RunError
from engine.runtime.run_info import StopReason
from engine.runtime.task_runner import TaskRunner
from engine.states import RunStatus


class StopControl:
    """The stop requests of one claimed run.

    `reason` is the strongest request so far. `failure` is the first error that ends the run.
    `run_status` is the status of the run's row, as far as this worker knows.
    """

    def __init__(self, tasks: TaskRunner, failure: RunError | None) -> None:
        self.reason: StopReason | None = None
        self.failure = failure
        self.run_status = RunStatus.RUNNING
        self._is_interrupted = False
        self._control = RunControl()
        self._tasks = tasks

    def new_control(self) -> RunControl:
        """Return a control for the next invocation of the graph.

        A stop request ends that invocation after its superstep.
        """
        self._control = RunControl()
        return self._control

    def request(self, reason: StopReason) -> None:
        """Request a stop. The strongest of several reasons counts."""
        if self.reason is None or reason.outranks(self.reason):
            self.reason = reason
        if reason is StopReason.PAUSE and self.run_status is RunStatus.RUNNING:
            self.run_status = RunStatus.PAUSING
        elif reason is StopReason.CANCEL:
            self.run_status = RunStatus.CANCELLING
        self._control.request_drain(reason)
        if reason in (StopReason.PAUSE, StopReason.DRAIN):
            self._tasks.request_stop()
        if reason.is_immediate:
            # A cancel or a timeout ends the run. After a lost lease another worker may have the
            # run, and repeats what is not stored. So no node may delay its end to store results.
            self._tasks.abandon()
            self._tasks.request_cancel()
            self._tasks.waits_for_helpers.interrupt(NodeInterrupted())
        self._tasks.wake.set()

    def interrupt(self) -> None:
        """Cancel the running nodes because the time to wait for them is over.

        The next claim starts them again.
        """
        self._tasks.request_cancel()
        self._tasks.wake.set()
        self._is_interrupted = True

    def fail(self, error: RunError) -> None:
        """End the run with an error. The first error counts."""
        self.failure = self.failure or error
        self._tasks.abandon()
        self._control.request_drain("a node failed")

    def set_run_status(self, status: RunStatus) -> None:
        """Adopt a status that a server has written to the run's row, and stop as it demands."""
        self.run_status = status
        if status is not RunStatus.RUNNING:
            self.request(StopReason.CANCEL if status is RunStatus.CANCELLING else StopReason.PAUSE)

    @property
    def is_requested(self) -> bool:
        return self.reason is not None or self.failure is not None

    @property
    def ends_backoffs(self) -> bool:
        """Whether nodes that are RETRYING begin their next attempt.

        A step, and the end of a run at a breakpoint, include the attempts of their nodes. A node
        in backoff is not running, so a pause or a drain does not wait for it.
        """
        return self.failure is None and self.reason in (None, StopReason.BREAK)

    @property
    def is_immediate(self) -> bool:
        """Whether the run stops without waiting for its running nodes."""
        is_immediate_reason = self.reason is not None and self.reason.is_immediate
        return self.failure is not None or self._is_interrupted or is_immediate_reason

    @property
    def blocks_tasks(self) -> bool:
        """Whether scheduled nodes must not start. The next claim of the run starts them, if any."""
        return self.failure is not None or (
            self.reason is not None and (self.reason.is_immediate or self.reason is StopReason.DRAIN)
        )
