"""Template filters and tools treat timestamps in the same way."""

from typing import Any

import pytest

from engine.errors import NodeFailure
from engine.expressions.evaluator import ExpressionError, evaluate
from engine.tools.catalog import open_tools
from engine.values.timestamps import datetime_shift, parse_timestamp
from tests.engine.node_runner import NodeHarness

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
async def test_a_filter_and_the_tool_of_the_same_name_give_the_same_result(
    tool: str, arguments: dict[str, Any], template: str
) -> None:
    async with open_tools({}) as tools:
        try:
            tool_result = await tools.call(tool, arguments, NodeHarness().context)
        except NodeFailure as failure:
            tool_result = failure.message.removeprefix(f"{tool}: ")
    try:
        assert evaluate(template, arguments) == tool_result
    except ExpressionError as error:
        assert tool_result in str(error)


@pytest.mark.parametrize(
    ("timestamp", "shifted"),
    [
        ("2030-01-31T00:00:00+00:00", "2030-02-01T00:00:00Z"),
        ("2030-01-31", "2030-02-01T00:00:00Z"),
        ("2030-01-31T00:00:00.5-00:00", "2030-02-01T00:00:00.500000Z"),
        ("2030-01-31T00:00:00+05:30", "2030-02-01T00:00:00+05:30"),
        ("2030-01-31T00:00:00+00:01", "2030-02-01T00:00:00+00:01"),
    ],
)
def test_a_timestamp_keeps_its_offset_and_utc_is_written_as_z(timestamp: str, shifted: str) -> None:
    assert datetime_shift(timestamp, days=1) == shifted


@pytest.mark.parametrize("offset", ["+00:00:20", "-00:00:20", "+05:30:01", "+05:30:00.5"])
def test_an_offset_with_seconds_is_an_error(offset: str) -> None:
    with pytest.raises(ValueError, match="its offset is not in whole minutes"):
        parse_timestamp(f"2030-01-31T00:00:00{offset}")
