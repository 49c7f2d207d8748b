"""The trigger kind `schedule`: fires at the times of a cron expression or of an interval.

Planned times are a function of the config alone, so that every process computes the same ones. Cron
times follow Debian's cron (the library cronsim): a job at a fixed time that falls into the missing
hour of a change to summer time runs right after it, and runs once in the repeated hour.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator

from engine.sdk.trigger import ConfigConflict, OnMissed, Overlap, TriggerConfig, TriggerKind
from engine.types import JSON
from engine.values.timestamps import find_time_zone, format_timestamp

MAX_SECONDS = 366 * 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ScheduleConfig(TriggerConfig):
    """The config of a `schedule`. Exactly one of `cron` and `intervalS` is set."""

    cron: str | None = Field(
        None,
        max_length=200,
        title="Cron",
        description="Five fields (minute, hour, day, month, weekday), or six with seconds first.",
        examples=["0 9 * * MON-FRI"],
    )
    intervalS: int | None = Field(  # noqa: N815
        None,
        ge=1,
        le=MAX_SECONDS,
        title="Interval",
        description="Seconds between two firings, counted from `start`, or from 1970 without `start`.",
        examples=[3600],
    )
    timezone: str = Field(
        "UTC",
        max_length=64,
        title="Time zone",
        description="IANA name of the zone of `cron`.",
        examples=["Europe/Paris"],
    )
    start: datetime | None = Field(
        None, title="Start", description="Nothing fires before this time (RFC 3339).", examples=["2030-01-01T00:00:00Z"]
    )
    end: datetime | None = Field(
        None, title="End", description="Nothing fires after this time (RFC 3339).", examples=["2030-12-31T00:00:00Z"]
    )
    jitterS: int = Field(  # noqa: N815
        0, ge=0, le=86_400, title="Jitter", description="Fires up to so many seconds later.", examples=[30]
    )
    onMissed: OnMissed = Field(  # noqa: N815
        "last",
        title="Missed times",
        description="Times that passed without a worker: `skip` fires none, `last` one, `all` the last 100.",
        examples=["last"],
    )
    overlap: Overlap = Field(
        "allow",
        title="Overlap",
        description="While a run of the trigger is active: `allow` starts another, `skip` starts none, `queue` starts "
        "it afterwards.",
        examples=["skip"],
    )

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, cron: str | None) -> str | None:
        if cron is not None:
            _check_cron(cron, datetime(2024, 1, 1, tzinfo=UTC))
        return cron

    @field_validator("timezone")
    @classmethod
    def _check_zone(cls, timezone: str) -> str:
        find_time_zone(timezone)
        return timezone

    def conflicts(self) -> Iterator[ConfigConflict]:
        if (self.cron is None) == (self.intervalS is None):
            yield ConfigConflict(("cron", "intervalS"), "give either `cron` or `intervalS`")
        if self.start is not None and self.end is not None and _utc(self.start) > _utc(self.end):
            yield ConfigConflict(("start", "end"), "`end` must be after `start`")
        if self.intervalS is not None and self.jitterS > self.intervalS:
            yield ConfigConflict(("jitterS", "intervalS"), "`jitterS` must be at most `intervalS`")


class ScheduleKind(TriggerKind[ScheduleConfig]):
    """Fires at planned times; `event.scheduledAt` is the planned time, without jitter."""

    name: ClassVar[str] = "schedule"
    title: ClassVar[str] = "Schedule"
    description: ClassVar[str] = "Starts runs at the times of a cron expression, or at an interval."
    Config: ClassVar[type[TriggerConfig]] = ScheduleConfig
    is_scheduled: ClassVar[bool] = True
    event_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"scheduledAt": {"type": "string", "format": "date-time"}, "timezone": {"type": "string"}},
        "required": ["scheduledAt", "timezone"],
    }
    example: ClassVar[dict[str, Any]] = {"cron": "0 9 * * MON-FRI", "timezone": "Europe/Paris", "overlap": "skip"}

    def next_time(self, config: ScheduleConfig, after: datetime) -> datetime | None:
        if config.start is not None:
            after = max(after, _utc(config.start) - timedelta(microseconds=1))
        planned = _next_interval(config, after) if config.cron is None else _next_cron(config, after)
        is_late = planned is None or (config.end is not None and planned > _utc(config.end))
        return None if is_late else planned

    def last_time(self, config: ScheduleConfig, until: datetime) -> datetime | None:
        if config.end is not None:
            until = min(until, _utc(config.end))
        planned: datetime | None
        if config.cron is None:
            planned = _next_interval(config, until - timedelta(seconds=config.intervalS or 1))
        else:
            planned = _last_cron(config, until)
        is_early = planned is None or (config.start is not None and planned < _utc(config.start))
        return None if is_early else planned

    def on_missed(self, config: ScheduleConfig) -> OnMissed:
        return config.onMissed

    def overlap(self, config: ScheduleConfig) -> Overlap:
        return config.overlap

    def delayed(self, config: ScheduleConfig, trigger_id: str, planned: datetime) -> datetime:
        # The jitter is a hash, so that a repeated computation gives the same time.
        digest = hashlib.sha256(f"{trigger_id} {planned.isoformat()}".encode()).digest()
        return planned + timedelta(seconds=config.jitterS * int.from_bytes(digest[:4]) / 2**32)

    def event(self, config: ScheduleConfig, planned: datetime) -> dict[str, JSON]:
        return {"scheduledAt": format_timestamp(planned), "timezone": config.timezone}


def _utc(moment: datetime) -> datetime:
    """Return a moment in UTC. One without a zone is UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _next_interval(config: ScheduleConfig, after: datetime) -> datetime:
    interval = timedelta(seconds=config.intervalS or 1)
    anchor = EPOCH if config.start is None else _utc(config.start)
    return anchor + ((after - anchor) // interval + 1) * interval


def _next_cron(config: ScheduleConfig, after: datetime) -> datetime | None:
    times = CronSim(config.cron or "", after.astimezone(find_time_zone(config.timezone)))
    # In a repeated hour the library may return a time that is not later.
    return next((time for time in (one.astimezone(UTC) for one in times) if time > after), None)


def _last_cron(config: ScheduleConfig, until: datetime) -> datetime | None:
    # The library excludes the moment where it begins.
    begin = (until + timedelta(seconds=1)).astimezone(find_time_zone(config.timezone))
    times = CronSim(config.cron or "", begin, reverse=True)
    return next((time for time in (one.astimezone(UTC) for one in times) if time <= until), None)


def _check_cron(cron: str, moment: datetime) -> None:
    """Check that an expression is valid and has a time in the next 50 years. Raises ValueError."""
    try:
        times = CronSim(cron, moment)
    except CronSimError as error:
        raise ValueError(_describe(str(error))) from error
    if next(times, None) is None:
        raise ValueError("`cron` never fires: no date in the next 50 years matches it")


def _describe(error: str) -> str:
    """Return our own sentence for an error of the library, which ends with the name of a field."""
    for field in ("second", "minute", "hour", "month", "day-of-week"):
        if error == f"Bad {field}":
            return f"the field {field} of `cron` is not valid"
    if error == "Bad day-of-month":
        return "the field day-of-month of `cron` is not valid, or never fires: no month of `cron` has such a day"
    return "`cron` must have five fields (minute, hour, day, month, weekday), or six with seconds first"
