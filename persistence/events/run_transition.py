"""`RunTransition`: one status change of one run.

Servers, workers and recovery publish it after the commit. It is also the message on the Redis
channel of the run's project. The message is a hint: a lost one delays readers, who find the same
change in Postgres.
"""

from dataclasses import dataclass

from engine.events import Event, StatusChange
from engine.states import RunStatus


@dataclass(frozen=True, slots=True)
class RunTransition:
    """A run went from `previous` to `status`. `previous` is None for a new run."""

    project_id: str
    run_id: str
    status: RunStatus
    previous: RunStatus | None
    events: tuple[Event, ...] = ()
    """The events written with it, the status change last; empty in a decoded message."""

    @classmethod
    def of(cls, project_id: str, run_id: str, change: StatusChange, events: tuple[Event, ...] = ()) -> "RunTransition":
        """Make a transition from the status event of the run."""
        return cls(project_id, run_id, change.status, change.previous, events)

    def encode(self) -> str:
        """Return the message for the project's channel: four words, the last may be empty."""
        return f"{self.project_id} {self.run_id} {self.status} {self.previous or ''}"

    @classmethod
    def decode(cls, message: str) -> "RunTransition":
        """Read what `encode` wrote. Raises ValueError for any other text."""
        project_id, run_id, status, previous = message.split(" ")
        return cls(project_id, run_id, RunStatus(status), RunStatus(previous) if previous else None)
