"""A due trigger with what is to be done, as `due` prepares it before its transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from engine.sdk.trigger import PollResult
from engine.types import JSON
from persistence.triggers.events import Firing, RecordedFiring
from persistence.triggers.trigger import Trigger


@dataclass(frozen=True, slots=True)
class Advance:
    """The new columns of a trigger after a firing. None for `error` means that nothing failed."""

    planned_at: datetime | None
    fire_at: datetime | None
    fired_at: datetime | None = None
    error: str | None = None
    is_failure: bool = False
    is_over: bool = False
    """Whether the trigger is disabled: it failed too often."""
    keeps_plan: bool = False
    """Whether its next planned time stays."""
    state: JSON = None
    """The new position in the source of a trigger that is polled; None keeps it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A due trigger as it was read, with what is to be done."""

    trigger: Trigger
    version_id: str | None
    firings: tuple[Firing, ...]
    advance: Advance
    overlap: str = "allow"
    pending_key: str | None = None
    """The key of the pending firing that it is; None for a planned time."""
    poll: PollResult | None = None
    """What its source has returned, if it was polled."""
    regular: datetime | None = None
    """When its source is asked again if items have to wait: not at once, because the queue is full."""

    @property
    def is_alone(self) -> bool:
        """Whether it needs a transaction of its own: it may cancel runs, or wait for other admissions."""
        return any(one.new is not None and not one.new.is_queued_at_limit for one in self.firings)


def unchanged(trigger: Trigger, version_id: str | None) -> Candidate:
    """Return a candidate of a trigger that is not claimed. Nothing of it is written: no row is like it."""
    return Candidate(replace(trigger, next_fire_at=None), version_id, (), Advance(None, None, keeps_plan=True))


def polled_again(candidate: Candidate, waiting: Sequence[RecordedFiring]) -> Candidate:
    """Return the candidate of a poll with items for which no run may be accepted now. The position in the
    source then stays, so that the next poll finds them again. Those that have fired are then duplicates."""
    reason = waiting[0].event.error
    error = f"{len(waiting)} of {len(candidate.firings)} items wait for the next poll: {reason}"
    later = candidate.regular
    return replace(
        candidate, advance=replace(candidate.advance, planned_at=later, fire_at=later, state=None, error=error)
    )
