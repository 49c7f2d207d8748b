"""Moments are one thing to templates and to tools; and what a model took adds up."""

from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.events import Usage
from engine.expressions.evaluator import ExpressionError, evaluate
from engine.tools.catalog import open_tools
from engine.values.timestamps import datetime_shift, read_moment
from tests.engine.node_runner import Given

BOTH: list[tuple[str, dict[str, Any], str]] = [
    ("datetime_shift", {"moment": "2030-01-31", "days": 1}, "moment | datetime_shift(days=days)"),
    ("datetime_shift", {"moment": "2030-01-31", "days": 1e12}, "moment | datetime_shift(days=days)"),
    ("datetime_shift", {"moment": "no", "days": 1}, "moment | datetime_shift(days=days)"),
    ("datetime_shift", {"moment": "2030-01-31T00:00:00+05:00:00.5", "days": 1}, "moment | datetime_shift(days=days)"),
    ("datetime_difference", {"start": "2030-01-31", "end": "2030-02-01T06:00:00Z"}, "start | datetime_difference(end)"),
    ("datetime_format", {"moment": "2030-01-31", "format": "%d.%m.%y"}, "moment | datetime_format(format)"),
    (
        "datetime_format",
        {"moment": "2030-01-31", "format": "%H", "timezone": "Mars/Olympus"},
        "moment | datetime_format(format, timezone)",
    ),
]


@pytest.mark.parametrize(("tool", "arguments", "template"), BOTH)
async def test_a_filter_and_the_tool_of_its_name_say_the_same(
    tool: str, arguments: dict[str, Any], template: str
) -> None:
    async with open_tools({}) as tools:
        try:
            by_tool = await tools.call(tool, arguments, Given().context)
        except NodeFailure as failure:
            by_tool = failure.message.removeprefix(f"{tool}: ")
    try:
        assert evaluate(template, arguments) == by_tool
    except ExpressionError as wrong:
        assert by_tool in str(wrong)


@pytest.mark.parametrize(
    ("moment", "told"),
    [
        ("2030-01-31T00:00:00+00:00", "2030-02-01T00:00:00Z"),
        ("2030-01-31", "2030-02-01T00:00:00Z"),
        ("2030-01-31T00:00:00.5-00:00", "2030-02-01T00:00:00.500000Z"),
        ("2030-01-31T00:00:00+05:30", "2030-02-01T00:00:00+05:30"),
        ("2030-01-31T00:00:00+00:01", "2030-02-01T00:00:00+00:01"),
    ],
)
def test_a_moment_keeps_its_offset_and_that_of_utc_is_z(moment: str, told: str) -> None:
    assert datetime_shift(moment, days=1) == told


@pytest.mark.parametrize("offset", ["+00:00:20", "-00:00:20", "+05:30:01", "+05:30:00.5"])
def test_an_offset_with_seconds_is_none(offset: str) -> None:
    with pytest.raises(ValueError, match="its offset is not of whole minutes"):
        read_moment(f"2030-01-31T00:00:00{offset}")


def test_what_was_taken_adds_up_and_one_price_that_is_not_known_makes_the_sum_unknown() -> None:
    assert Usage("a", 1, 2, 0.5) + Usage("b", 10, 20, 0.25) == Usage("b", 11, 22, 0.75)
    assert Usage("a", 1, 2) + Usage("a", 10, 20, 0.25) == Usage("a", 11, 22)
