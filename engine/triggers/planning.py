"""Decide what a trigger that fires by the clock does now: fire, skip, and when to look again.

Pure: the result is a function of the config, the planned time and the present time, so that every
worker decides the same. `persistence.triggers.due` is the caller.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from engine.sdk.trigger import TriggerKind
from engine.values.timestamps import format_timestamp

GRACE = timedelta(seconds=60)
"""A planned time that is older has passed without a worker, for `onMissed: skip`."""
MAX_MISSED = 100
"""Missed times that `onMissed: all` fires. Older ones are skipped."""
SPREAD = (timedelta(milliseconds=50), timedelta(seconds=1))
"""The least and the greatest time between the firings of two missed times: a tenth of their distance."""
MAX_COUNTED = 1000
"""Skipped times that are counted for their message."""
BACKOFF_S = (1.0, 3600.0)
"""The pauses after the first failure in a row, and the longest one. Each is twice the one before."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class DuePlan:
    """What happens at a due time.

    `due` is the planned time that fires, and None if none does. `skipped` is the last planned time
    that does not fire, with the reason. `planned_at` is the next planned time, and None if the trigger
    never fires again. `fire_at` is when a worker acts on it.
    """

    due: datetime | None
    skipped: datetime | None
    reason: str | None
    planned_at: datetime | None
    fire_at: datetime | None


def first_plan(kind: TriggerKind[Any], config: Any, trigger_id: str, now: datetime) -> DuePlan:
    """Return the first planned time of a trigger that is created, enabled or changed now.

    Raises ValueError as `TriggerKind.next_time` does.
    """
    return _plan(kind, config, trigger_id, None, kind.first_time(config, now))


def plan_due(kind: TriggerKind[Any], config: Any, trigger_id: str, planned: datetime, now: datetime) -> DuePlan:
    """Return what happens now at a planned time that is due.

    Args:
        kind: The kind of the trigger.
        config: Its config.
        trigger_id: The id of the trigger.
        planned: The planned time. Planned times between it and `now` are due as well.
        now: The present time, by the clock of the database.

    Raises:
        ValueError: As `TriggerKind.next_time`.
    """
    following = kind.next_time(config, planned)
    is_single = following is None or kind.delayed(config, trigger_id, following) > now
    policy = kind.on_missed(config)
    if is_single and (policy != "skip" or now - kind.delayed(config, trigger_id, planned) <= GRACE):
        return _plan(kind, config, trigger_id, planned, following)
    if policy == "all":
        return _catch_up(kind, config, trigger_id, planned, now)
    last = kind.last_time(config, now) or planned
    following = kind.next_time(config, last)
    if policy == "last" or now - last <= GRACE:
        before = kind.last_time(config, last - _TICK)
        skipped = before if before is not None and before >= planned else None
        return _plan(kind, config, trigger_id, last, following, skipped, _reason(kind, config, planned, skipped))
    return _plan(kind, config, trigger_id, None, following, last, _reason(kind, config, planned, last))


def _plan(
    kind: TriggerKind[Any],
    config: Any,
    trigger_id: str,
    due: datetime | None,
    following: datetime | None,
    skipped: datetime | None = None,
    reason: str | None = None,
) -> DuePlan:
    fire_at = None if following is None else kind.delayed(config, trigger_id, following)
    return DuePlan(due, skipped, reason, following, fire_at)


def _catch_up(kind: TriggerKind[Any], config: Any, trigger_id: str, planned: datetime, now: datetime) -> DuePlan:
    """Fire the oldest missed time, but at most the last MAX_MISSED, one after the other."""
    due, skipped = planned, None
    if _count(kind, config, planned, now, MAX_MISSED + 1) > MAX_MISSED:
        due = kind.last_time(config, now) or planned
        for _ in range(MAX_MISSED - 1):
            due = kind.last_time(config, due - _TICK) or due
        skipped = kind.last_time(config, due - _TICK)
    following = kind.next_time(config, due)
    plan = _plan(kind, config, trigger_id, due, following, skipped, _reason(kind, config, planned, skipped))
    if plan.fire_at is None or following is None or plan.fire_at > now:
        return plan
    least, greatest = SPREAD
    pause = min(max((following - due) / 10, least), greatest)
    return DuePlan(plan.due, plan.skipped, plan.reason, plan.planned_at, now + pause)


def _count(kind: TriggerKind[Any], config: Any, first: datetime, until: datetime, limit: int) -> int:
    """Count the planned times from `first` to `until`, at most `limit`."""
    count, time = 0, first if first <= until else None
    while time is not None and time <= until and count < limit:
        count, time = count + 1, kind.next_time(config, time)
    return count


def _reason(kind: TriggerKind[Any], config: Any, first: datetime, last: datetime | None) -> str | None:
    if last is None:
        return None
    count = _count(kind, config, first, last, MAX_COUNTED + 1)
    number = f"more than {MAX_COUNTED:,}" if count > MAX_COUNTED else str(count)
    period = (
        f"from {format_timestamp(first)} to {format_timestamp(last)}" if first < last else f"{format_timestamp(last)}"
    )
    cause = "without a worker, or while the trigger backed off after a failure"
    return f"missed {cause} ({number}, {period}); `onMissed` of the trigger is {kind.on_missed(config)!r}"


def backoff(failures: int) -> timedelta:
    """Return the pause after a number of failures in a row, from 1."""
    least, longest = BACKOFF_S
    return timedelta(seconds=min(least * 2.0 ** min(failures - 1, 40), longest))
