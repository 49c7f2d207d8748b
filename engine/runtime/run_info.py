"""A take-up of a run, from outside: what the drive is given, why it may be asked to stop, and the store it stands on."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from engine.events import RunError
from engine.types import JSON
from engine.values.redaction import Redactor


class StopReason(StrEnum):
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
        return self in (StopReason.TIMEOUT, StopReason.CANCEL, StopReason.LEASE_LOST)

    def outranks(self, other: "StopReason") -> bool:
        """Of two reasons the later in the enum counts: they are in the order of what they demand."""
        return _RANK[self] > _RANK[other]


_RANK = {stop: rank for rank, stop in enumerate(StopReason)}


@dataclass(frozen=True, slots=True)
class MapItemScope:
    """What an item of a map has around it: the names that its templates know from outside, and the secrets of its node.

    `key` is the item's idempotency key; `redactor` keeps what the map keeps to itself.
    """

    names: Mapping[str, Any]
    secrets: Mapping[str, str]
    redactor: Redactor
    key: str


@dataclass(frozen=True, slots=True)
class RunInfo:
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
    around: MapItemScope | None = None
    """For the nodes of an item of a map."""

    @property
    def is_new(self) -> bool:
        """Nobody has held the run before, and it began with no copy of another one's head: nothing is stored of it.

        A copy has the step that it goes on from (`persistence.checkpoints.clone.derive`), which is 0 at least.
        """
        return self.epoch == 1 and self.resumed_step < 0

    @property
    def names(self) -> Mapping[str, Any]:
        """What templates know beside the run's own nodes."""
        return {} if self.around is None else self.around.names

    @property
    def key(self) -> str:
        """What the idempotency keys of its nodes begin with."""
        return f"{self.id}/{self.lineage}" if self.around is None else self.around.key
