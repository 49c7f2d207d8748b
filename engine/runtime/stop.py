"""Why a drive is to stop before its end, who is told of it, and how the run's row stands as far as the drive knows.

Nothing of it is stored but the failure, with the next entry: whoever takes the run up is asked again.
"""

from langgraph.runtime import RunControl

from engine.events import RunError
from engine.runtime.run_info import StopReason
from engine.runtime.task_runner import TaskRunner
from engine.states import RunStatus


class StopControl:
    def __init__(self, launcher: TaskRunner, failure: RunError | None) -> None:
        self.stop: StopReason | None = None
        self.failure = failure
        self.stands = RunStatus.RUNNING
        self._is_interrupted = False
        self._control = RunControl()
        self._launcher = launcher

    def new_control(self) -> RunControl:
        """For the next call of the graph: by it the call ends with the wave that is under way."""
        self._control = RunControl()
        return self._control

    def request(self, stop: StopReason) -> None:
        """Asks to stop; of several reasons the one that demands most counts."""
        if self.stop is None or stop.outranks(self.stop):
            self.stop = stop
        if stop is StopReason.PAUSE and self.stands is RunStatus.RUNNING:
            self.stands = RunStatus.PAUSING
        elif stop is StopReason.CANCEL:
            self.stands = RunStatus.CANCELLING
        self._control.request_drain(stop)
        if stop.is_at_once:
            # By a cancel and a timeout the run ends. A lost lease may be another worker's, who does the last batch again.
            self._launcher.give_up()
            self._launcher.cancel_soon()
        self._launcher.wake.set()

    def interrupt(self) -> None:
        """It has been waited for long enough: what still runs is cancelled, and launched again by who takes the run up."""
        self._launcher.cancel_soon()
        self._launcher.wake.set()
        self._is_interrupted = True

    def fail(self, error: RunError) -> None:
        """The run ends with it. The first one counts."""
        self.failure = self.failure or error
        self._launcher.give_up()
        self._control.request_drain("a node failed")

    def moved(self, status: RunStatus) -> None:
        """Somebody else has changed the run's row."""
        self.stands = status
        if status is not RunStatus.RUNNING:
            self.request(StopReason.CANCEL if status is RunStatus.CANCELLING else StopReason.PAUSE)

    @property
    def is_asked(self) -> bool:
        return self.stop is not None or self.failure is not None

    @property
    def is_at_once(self) -> bool:
        """What runs is not waited for."""
        return self.failure is not None or self._is_interrupted or (self.stop is not None and self.stop.is_at_once)

    @property
    def is_elsewhere(self) -> bool:
        """What is launched now is started by whoever takes the run up, if anybody does."""
        return self.failure is not None or (
            self.stop is not None and (self.stop.is_at_once or self.stop is StopReason.DRAIN)
        )
