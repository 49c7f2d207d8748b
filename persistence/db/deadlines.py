"""Time limits of the run statuses that must not last, and of kept events; docs/state_machine.md has what follows.

`Deadlines` is made once a process from its settings and kept in its `Database`: servers write the
deadlines into the rows of runs, workers act on them. It has no default values, so no caller can
ignore the settings.
"""

from dataclasses import dataclass
from datetime import timedelta

PENDING = timedelta(days=7)
"""After this time a run that was never started is cancelled."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The configured time limits of the statuses."""

    pausing: timedelta
    """After this time in PAUSING the running nodes are cancelled. They run again on resume."""
    cancelling: timedelta
    """After this time in CANCELLING the worker process that still holds the run is killed."""
    idle: timedelta | None
    """After this time in PAUSED or WAITING the run is cancelled; None: never."""
    kept_events: timedelta
    """After this time an event for a key that no run has waited for expires."""
