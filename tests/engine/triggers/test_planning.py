"""What a trigger does at a due time: on time, after missed times, and after failures."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.triggers.planning import backoff, first_plan, plan_due
from engine.triggers.schedule import ScheduleConfig, ScheduleKind

KIND = ScheduleKind()
MINUTELY, HOURLY = {"cron": "* * * * *"}, {"intervalS": 3600}


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-01T{text}Z")


def text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%H:%M:%S.%f").rstrip("0").rstrip(".")


@pytest.mark.parametrize(
    ("config", "policy", "planned", "now", "due", "skipped", "following", "fire_at"),
    [
        (HOURLY, "skip", "09:00:00", "09:00:00.2", "09:00:00", None, "10:00:00", "10:00:00"),
        (HOURLY, "skip", "09:00:00", "09:00:59", "09:00:00", None, "10:00:00", "10:00:00"),
        (HOURLY, "skip", "09:00:00", "09:01:01", None, "09:00:00", "10:00:00", "10:00:00"),
        (HOURLY, "last", "09:00:00", "09:30:00", "09:00:00", None, "10:00:00", "10:00:00"),
        (HOURLY, "last", "09:00:00", "12:30:00", "12:00:00", "11:00:00", "13:00:00", "13:00:00"),
        (HOURLY, "skip", "09:00:00", "12:30:00", None, "12:00:00", "13:00:00", "13:00:00"),
        (HOURLY, "skip", "09:00:00", "12:00:30", "12:00:00", "11:00:00", "13:00:00", "13:00:00"),
        (HOURLY, "all", "09:00:00", "12:30:00", "09:00:00", None, "10:00:00", "12:30:01"),
        (HOURLY, "all", "12:00:00", "12:30:00", "12:00:00", None, "13:00:00", "13:00:00"),
        (MINUTELY, "all", "09:00:00", "12:00:10", "10:21:00", "10:20:00", "10:22:00", "12:00:11"),
        ({"intervalS": 1}, "all", "09:00:00", "09:00:05", "09:00:00", None, "09:00:01", "09:00:05.1"),
        ({"cron": "0 9 * * *", "end": "2026-01-01T10:00:00Z"}, "last", "09:00:00", "09:00:01", "09:00:00", *[None] * 3),
    ],
)
def test_what_happens_at_a_due_time(
    config: dict[str, Any],
    policy: str,
    planned: str,
    now: str,
    due: str | None,
    skipped: str | None,
    following: str | None,
    fire_at: str | None,
) -> None:
    parsed = ScheduleConfig.model_validate({**config, "onMissed": policy})
    plan = plan_due(KIND, parsed, "trg_1", at(planned), at(now))
    assert (text(plan.due), text(plan.skipped)) == (due, skipped)
    assert (text(plan.planned_at), text(plan.fire_at)) == (following, fire_at)
    assert (plan.reason is None) == (skipped is None)


def test_the_reason_counts_what_is_skipped() -> None:
    parsed = ScheduleConfig.model_validate({**HOURLY, "onMissed": "skip"})
    plan = plan_due(KIND, parsed, "trg_1", at("09:00:00"), at("12:30:00"))
    assert plan.reason is not None and "(4, from 2026-01-01T09:00:00Z to 2026-01-01T12:00:00Z)" in plan.reason
    assert "without a worker, or while the trigger backed off after a failure" in plan.reason
    plan = plan_due(KIND, ScheduleConfig(intervalS=1, onMissed="skip"), "trg_1", at("09:00:00"), at("12:30:00"))
    assert plan.due is not None and plan.reason is not None and "more than 1,000" in plan.reason


def test_catching_up_fires_each_missed_time_once_and_ends() -> None:
    parsed = ScheduleConfig(intervalS=60, onMissed="all")
    planned: datetime | None = at("09:00:00")
    now, fired = at("09:30:30"), list[datetime]()
    while planned is not None and planned <= now:
        plan = plan_due(KIND, parsed, "trg_1", planned, now)
        assert plan.due is not None and plan.fire_at is not None
        fired.append(plan.due)
        planned, now = plan.planned_at, max(now, plan.fire_at) if plan.fire_at < at("09:40:00") else now
    assert fired[:31] == [at("09:00:00") + timedelta(minutes=number) for number in range(31)]


def test_a_trigger_is_first_due_at_its_next_planned_time_with_jitter() -> None:
    plan = first_plan(KIND, ScheduleConfig(intervalS=60, jitterS=30), "trg_1", at("09:00:00"))
    assert plan.due is None and plan.planned_at == at("09:01:00")
    assert plan.fire_at is not None and at("09:01:00") <= plan.fire_at <= at("09:01:30")


def test_the_backoff_doubles_up_to_an_hour() -> None:
    assert [backoff(count).total_seconds() for count in (1, 2, 3, 12, 13, 10_000)] == [1, 2, 4, 2048, 3600, 3600]
