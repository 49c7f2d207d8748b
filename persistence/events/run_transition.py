"""`RunTransition`: one status change of one run.

Servers, workers and recovery publish it after the commit. It is also the message on the Redis
channel of the run's project. The message is a hint: a lost one delays readers, who find the same
change in Postgres. The last transition of a run carries how the run ended, for the log.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from engine.events import Event, StatusChange
from engine.metrics import RUN_SECONDS, RUNS_FINISHED, bounded
from engine.states import RunStatus

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended, for logs and metrics."""

    workflow_id: str | None
    source: str
    code: str | None
    """The code of its error."""
    attempt: int
    duration_s: float | None
    """Seconds since its first start; None if it was never started."""


@dataclass(frozen=True, slots=True)
class RunTransition:
    """A run went from `previous` to `status`. `previous` is None for a new run."""

    project_id: str
    run_id: str
    status: RunStatus
    previous: RunStatus | None
    events: tuple[Event, ...] = ()
    """The events written with it, the status change last; empty in a decoded message."""
    end: RunEnd | None = field(default=None, compare=False)
    """None for a transition to a status that is not terminal, and in a decoded message."""

    @classmethod
    def of(
        cls,
        project_id: str,
        run_id: str,
        change: StatusChange,
        events: tuple[Event, ...] = (),
        end: RunEnd | None = None,
    ) -> "RunTransition":
        """Make a transition from the status event of the run."""
        return cls(project_id, run_id, change.status, change.previous, events, end)

    def encode(self) -> str:
        """Return the message for the project's channel: four words, the last may be empty."""
        return f"{self.project_id} {self.run_id} {self.status} {self.previous or ''}"

    @classmethod
    def decode(cls, message: str) -> "RunTransition":
        """Read what `encode` wrote. Raises ValueError for any other text."""
        project_id, run_id, status, previous = message.split(" ")
        return cls(project_id, run_id, RunStatus(status), RunStatus(previous) if previous else None)


def report_ends(transitions: Iterable[RunTransition]) -> None:
    """Log and count each run that has ended by one of these transitions."""
    for transition in transitions:
        if (end := transition.end) is not None:
            status = transition.status.value
            RUNS_FINISHED.labels(status, end.source, bounded("code", end.code or "")).inc()
            if end.duration_s is not None:
                RUN_SECONDS.labels(status).observe(end.duration_s)
            log.info(
                "run.finished",
                run_id=transition.run_id,
                workflow_id=end.workflow_id,
                status=status,
                code=end.code,
                duration_ms=None if end.duration_s is None else round(end.duration_s * 1000, 1),
                attempt=end.attempt,
                source=end.source,
            )
