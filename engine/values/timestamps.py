"""Parse, format and shift timestamps (RFC 3339), for templates, tools and delays.

A timestamp without an offset is in UTC. Every error is a ValueError whose message names the cause.
The module reads no clock and has no state.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.types import JSON
from engine.values.kinds import kind
from engine.values.storable import stored_form

MAX_FORMAT = 200
"""Characters of a format for `datetime_format`."""


def parse_timestamp(text: JSON) -> datetime:
    """Parse a timestamp. The result has a time zone.

    Raises:
        ValueError: It is not a text in the format of RFC 3339.
    """
    if not isinstance(text, str):
        raise ValueError(f"a timestamp is a text, such as '2030-01-31T09:00:00Z' (RFC 3339), not {kind(text)}")
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a timestamp (RFC 3339)") from None
    if (offset := timestamp.utcoffset()) is None:
        return timestamp.replace(tzinfo=UTC)
    if offset % timedelta(minutes=1):
        raise ValueError(f"{text[:40]!r} is not a timestamp (RFC 3339): its offset is not in whole minutes")
    return timestamp


def find_time_zone(name: str) -> ZoneInfo:
    """Find a time zone by its IANA name, such as `Europe/Paris`.

    Raises:
        ValueError: There is no such time zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name[:64]!r}") from error


def format_timestamp(timestamp: datetime) -> str:
    """Write a timestamp in the format of RFC 3339, with `Z` for UTC."""
    text = timestamp.isoformat()
    return text.removesuffix("+00:00") + "Z" if timestamp.utcoffset() == timedelta(0) else text


def datetime_shift(moment: JSON, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> str:
    """Shift a timestamp by a time, which may be negative."""
    start, amounts = parse_timestamp(moment), {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
    for unit, amount in amounts.items():
        if kind(amount) != "a number":
            raise ValueError(f"`{unit}` must be a number, not {kind(amount)}")
    try:
        return format_timestamp(start + timedelta(**amounts))
    except (OverflowError, ValueError) as error:
        raise ValueError("the result is out of range: before the year 1 or after the year 9999") from error


def datetime_difference(start: JSON, end: JSON) -> JSON:
    """Return the time between two timestamps as `{seconds, days}`."""
    difference = parse_timestamp(end) - parse_timestamp(start)
    return stored_form({"seconds": difference.total_seconds(), "days": difference / timedelta(days=1)})


def datetime_format(moment: JSON, format: str, timezone: str = "UTC") -> str:
    """Format a timestamp in a time zone by a format of strftime."""
    for name, value in {"format": format, "timezone": timezone}.items():
        if not isinstance(value, str):
            raise ValueError(f"`{name}` must be a text, not {kind(value)}")
    if len(format) > MAX_FORMAT:
        raise ValueError(f"a format has at most {MAX_FORMAT} characters")
    timestamp, zone = parse_timestamp(moment), find_time_zone(timezone)
    try:
        return timestamp.astimezone(zone).strftime(format)
    except (OverflowError, ValueError) as error:
        message = "the timestamp cannot be formatted: it is out of range in this time zone, or the format is not valid"
        raise ValueError(message) from error
