"""The planned times of a schedule: gap and fold hours, bounds, intervals, and invalid configs."""

import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.triggers import registry
from engine.triggers.registry import BUILT_IN, load_trigger_kinds, read_config
from engine.triggers.schedule import ScheduleConfig, ScheduleKind
from treadle import TriggerConfig, TriggerKind

KIND = ScheduleKind()


def times(config: dict[str, Any], after: str, count: int) -> list[str]:
    parsed = ScheduleConfig.model_validate(config)
    planned: datetime | None = datetime.fromisoformat(after)
    found = []
    while planned is not None and len(found) < count:
        if (planned := KIND.next_time(parsed, planned)) is not None:
            found.append(planned.strftime("%d %H:%M:%S"))
    return found


PARIS, NEW_YORK = "Europe/Paris", "America/New_York"


@pytest.mark.parametrize(
    ("config", "after", "expected"),
    [
        ({"cron": "0 9 * * *"}, "2026-01-01T09:00:00Z", ["02 09:00:00", "03 09:00:00"]),
        ({"cron": "*/20 0 9 * * *"}, "2026-01-01T09:00:20Z", ["01 09:00:40", "02 09:00:00"]),
        # The hour from 02:00 to 03:00 does not exist on 29 March 2026 in Paris.
        ({"cron": "30 2 * * *", "timezone": PARIS}, "2026-03-28T12:00:00Z", ["29 01:00:00", "30 00:30:00"]),
        ({"cron": "*/30 * * * *", "timezone": PARIS}, "2026-03-29T00:30:00Z", ["29 01:00:00", "29 01:30:00"]),
        # The hour from 01:00 to 02:00 comes twice on 1 November 2026 in New York.
        ({"cron": "30 1 * * *", "timezone": NEW_YORK}, "2026-10-31T12:00:00Z", ["01 05:30:00", "02 06:30:00"]),
        ({"cron": "0 * * * *", "timezone": NEW_YORK}, "2026-11-01T04:30:00Z", ["01 05:00:00", "01 06:00:00"]),
        ({"intervalS": 3600}, "2026-01-01T00:10:00Z", ["01 01:00:00", "01 02:00:00"]),
        ({"intervalS": 90, "start": "2026-01-02T00:00:30Z"}, "2026-01-01T00:00:00Z", ["02 00:00:30", "02 00:02:00"]),
        ({"intervalS": 3600, "end": "2026-01-01T01:00:00Z"}, "2026-01-01T00:10:00Z", ["01 01:00:00"]),
        ({"cron": "0 0 29 2 *", "end": "2027-01-01T00:00:00Z"}, "2026-01-01T00:00:00Z", []),
    ],
)
def test_planned_times(config: dict[str, Any], after: str, expected: list[str]) -> None:
    assert times(config, after, 2) == expected


CRONS = ["0 9 * * *", "30 2 * * *", "*/15 1-3 * * *", "15 */2 * * *", "0 30 1 * * *", "0 0 * * SUN", "5 * * * *"]
ZONES = ["UTC", PARIS, NEW_YORK, "Australia/Lord_Howe", "Asia/Kolkata"]


@settings(max_examples=60)
@given(st.sampled_from(CRONS), st.sampled_from(ZONES), st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))
def test_planned_times_increase_and_the_last_one_comes_back(cron: str, zone: str, moment: datetime) -> None:
    config, after = ScheduleConfig(cron=cron, timezone=zone), moment.replace(tzinfo=UTC)
    first = KIND.next_time(config, after)
    assert first is not None and first > after
    second = KIND.next_time(config, first)
    assert second is not None and second > first
    last = KIND.last_time(config, first)
    assert last is not None and after - timedelta(days=8) < last <= first


def test_jitter_is_bounded_and_the_same_each_time() -> None:
    config, planned = ScheduleConfig(intervalS=60, jitterS=30), datetime(2026, 1, 1, tzinfo=UTC)
    delays = {KIND.delayed(config, f"trg_{number}", planned) - planned for number in range(50)}
    assert len(delays) > 40 and timedelta(0) <= min(delays) and max(delays) <= timedelta(seconds=30)
    assert KIND.delayed(config, "trg_1", planned) == KIND.delayed(config, "trg_1", planned)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "give either `cron` or `intervalS`"),
        ({"cron": "0 9 * * *", "intervalS": 5}, "give either `cron` or `intervalS`"),
        ({"cron": "0 0 30 2 *"}, "never fires: no month of `cron` has such a day"),
        ({"cron": "0 0 */30 2 MON#5"}, "`cron` never fires"),
        ({"cron": "0 0 1 4 1#6"}, "the field day-of-week of `cron` is not valid"),
        ({"cron": "61 0 1 4 *"}, "the field minute of `cron` is not valid"),
        ({"cron": "every day"}, "`cron` must have five fields"),
        ({"cron": "0 9 * * *", "timezone": "Europe/Atlantis"}, "there is no time zone 'Europe/Atlantis'"),
        ({"cron": "0 9 * * *", "timezone": "../../etc/passwd"}, "there is no time zone"),
        ({"intervalS": 0}, "intervalS"),
        ({"intervalS": 5, "start": "2030-01-01T00:00:00Z", "end": "2029-01-01T00:00:00Z"}, "`end` must be after"),
        ({"intervalS": 5, "colour": "red"}, "is not a known field"),
        ({"intervalS": 5, "overlap": "wait"}, "must be 'allow', 'skip' or 'queue'"),
    ],
)
def test_an_invalid_config_has_a_clear_message(config: dict[str, Any], message: str) -> None:
    parsed, problems = read_config(KIND, config)
    assert parsed is None
    assert message in "; ".join(f"{problem.field} {problem.message}" for problem in problems)
    assert {problem.code for problem in problems} == {"CONFIG"}


def test_every_built_in_kind_has_a_valid_example_and_a_form() -> None:
    assert set(load_trigger_kinds()) == {kind.name for kind in BUILT_IN}
    for kind in load_trigger_kinds().values():
        parsed, problems = read_config(kind, kind.example)
        assert parsed is not None and problems == []
        for name, field in kind.Config.model_json_schema()["properties"].items():
            assert field["title"] and field["description"] and field["examples"], name


class _Moon(TriggerKind[TriggerConfig]):
    name = "full_moon"
    title, description = "Full moon", "Fires at each full moon."
    Config = TriggerConfig


class _Broken(TriggerKind[TriggerConfig]):
    name = "schedule"
    title, description = "Other", "Has the name of a built-in kind."
    Config = TriggerConfig


def test_a_package_adds_kinds_and_a_broken_one_affects_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    group = registry.GROUP
    values = {
        "moon": f"{__name__}:_Moon",
        "same": f"{__name__}:_Broken",
        "gone": "no_such_module:Kind",
        "none": "os:path",
    }
    entries = [EntryPoint(name, value, group) for name, value in values.items()]
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or ModuleType(__name__))
    vars(sys.modules[__name__]).update({"_Moon": _Moon, "_Broken": _Broken})
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    broken: dict[str, str] = {}
    kinds = load_trigger_kinds(broken)
    assert set(kinds) == {kind.name for kind in BUILT_IN} | {"full_moon"}
    assert isinstance(kinds["schedule"], ScheduleKind) and set(broken) == {"same", "gone", "none"}
