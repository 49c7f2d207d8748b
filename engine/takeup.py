"""A take-up of a run, from outside: what the drive is given, why it may be asked to stop, and the store it stands on."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from engine.compile import Write
from engine.events import JSON, RunError
from engine.ports import PendingWrite, Standing

if TYPE_CHECKING:
    from engine.drive import Drive


class Stop(StrEnum):
    """Why a drive is to stop before its end. Types, so that none is guessed from a CancelledError."""

    DRAIN = "drain"
    """The worker is leaving: hand the run back at the next boundary."""
    BREAK = "break"
    """A breakpoint, or the end of a step: the run pauses by itself."""
    PAUSE = "pause"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    LEASE_LOST = "lease lost"

    @property
    def is_at_once(self) -> bool:
        """True where running nodes are not waited for."""
        return self in (Stop.TIMEOUT, Stop.CANCEL, Stop.LEASE_LOST)

    def outranks(self, other: "Stop") -> bool:
        """Of two reasons the later in the enum counts: they are in the order of what they demand."""
        return _RANK[self] > _RANK[other]


_RANK = {stop: rank for rank, stop in enumerate(Stop)}


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a drive needs to know of the run it was given."""

    id: str
    project_id: str
    epoch: int
    lineage: int
    inputs: JSON
    scopes: frozenset[str] = frozenset()
    """What whoever started the run may do: tools ask."""
    timeout_s: float | None = None
    breakpoints: frozenset[str] = frozenset()
    is_step: bool = False
    """Only the next step is to run; then the run pauses."""
    resumed_step: int = -1
    """The head's step when somebody last resumed the run."""
    failure: RunError | None = None
    """What the run was failing with when its last worker was lost."""


class Head(Protocol):
    """Where runs stand in the store: the checkpoint saver, seen from the engine."""

    async def attach(self, drive: "Drive") -> Standing | None:
        """Loads the run's head; None where it has none yet. From now on its checkpoints go through `drive.commit_wave`."""
        ...

    def detach(self, run_id: str) -> None: ...
    def enter(self, run_id: str, writes: Sequence[Write]) -> tuple[list[Write], list[PendingWrite]]:
        """Adds outside writes to the head. Answers with what a Command has to bring in, and the rows that make it durable."""
        ...
