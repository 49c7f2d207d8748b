"""How long a run may be in each status before somebody else decides; docs/state_machine.md says what happens then.

One value a process, made from its settings and kept by its Database: servers write these deadlines, workers act on them.
"""

from dataclasses import dataclass
from datetime import timedelta

PENDING = timedelta(days=7)
"""Then it is cancelled."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    pausing: timedelta = timedelta(seconds=60)
    """Then running nodes are cut off, to run again on resume, and the run is PAUSED."""
    cancelling: timedelta = timedelta(seconds=10)
    """Then the worker process that still holds the run is killed."""
    rest: timedelta = timedelta(days=30)
    """PAUSED or WAITING: then the run is cancelled."""


DEADLINES = Deadlines()
"""Where nothing is set."""
