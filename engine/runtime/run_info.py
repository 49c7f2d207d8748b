"""The constant facts about a claimed run, and the reasons to stop it.

The worker creates a RunInfo for each claim; the executor and all its parts read it. It is
immutable and built from the run's row, so a crash loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from engine.events import RunError
from engine.types import JSON
from engine.values.redaction import Redactor


class StopReason(StrEnum):
    """The reasons to stop a run before its end, from the weakest to the strongest.

    They are passed as values, so that no code has to guess the reason from a CancelledError.
    """

    DRAIN = "drain"
    """The worker stops: it hands the run back after the current superstep."""
    BREAK = "break"
    """The run has reached a breakpoint or the end of a step, and pauses."""
    PAUSE = "pause"
    """A user pauses the run."""
    TIMEOUT = "timeout"
    """The run has used up its time."""
    STORAGE = "storage"
    """The run has stored as much as a run may."""
    CANCEL = "cancel"
    """A user cancels the run."""
    LEASE_LOST = "lease lost"
    """Another worker may have the run now."""

    @property
    def is_immediate(self) -> bool:
        """Whether running nodes are cancelled instead of awaited."""
        return self in (StopReason.TIMEOUT, StopReason.STORAGE, StopReason.CANCEL, StopReason.LEASE_LOST)

    def outranks(self, other: "StopReason") -> bool:
        """Whether this reason replaces `other`. The reasons are declared in ascending order."""
        return _RANK[self] > _RANK[other]


_RANK = {reason: rank for rank, reason in enumerate(StopReason)}


@dataclass(frozen=True, slots=True)
class MapItemScope:
    """The scope that a map passes to the nodes of one item.

    `names` are the values that the item's templates see in addition to the item's own nodes.
    `secrets` are those of the map's call, and `redactor` masks them. `key` is the idempotency key
    of the item.
    """

    names: Mapping[str, Any]
    secrets: Mapping[str, str]
    redactor: Redactor
    key: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A claimed run, as its executor needs it. `epoch` is the fencing token of the claim."""

    id: str
    project_id: str
    epoch: int
    lineage: int
    inputs: JSON
    scopes: frozenset[str] = frozenset()
    """The scopes of the caller who started the run. Tools check them."""
    timeout_s: float | None = None
    breakpoints: frozenset[str] = frozenset()
    """The ids of the nodes before which the run pauses."""
    is_step: bool = False
    """Whether the run pauses after the next step."""
    resumed_step: int = -1
    """The step of the head when the run was last resumed; -1 if it never was."""
    failure: RunError | None = None
    """The error with which the run was about to fail when its last worker was lost."""
    item_scope: MapItemScope | None = None
    """Set if this run is one item of a map."""
    thread_key: str | None = None
    """The key of the thread that the run belongs to. An item of a map has none."""

    @property
    def is_new(self) -> bool:
        """Whether nothing of the run is stored.

        True for the first claim of a run that is no copy of another run. A copy has
        `resumed_step` >= 0 from the start (persistence.checkpoints.clone.derive).
        """
        return self.epoch == 1 and self.resumed_step < 0

    @property
    def outer_names(self) -> Mapping[str, Any]:
        """The values that templates see in addition to the run's own nodes."""
        return {} if self.item_scope is None else self.item_scope.names

    @property
    def key(self) -> str:
        """The prefix of the idempotency keys of the run's nodes."""
        return f"{self.id}/{self.lineage}" if self.item_scope is None else self.item_scope.key
