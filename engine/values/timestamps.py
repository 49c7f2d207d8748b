"""Moments as texts (RFC 3339), in UTC where they name no zone: how templates, tools and delays read and write them. Pure.

What cannot be done is a ValueError that says what it was.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.types import JSON

MAX_FORMAT = 200


def read_moment(text: JSON) -> datetime:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError(f"{str(text)[:40]!r} is no date and time (RFC 3339)")
    if (offset := moment.utcoffset()) is None:
        return moment.replace(tzinfo=UTC)
    if offset % timedelta(minutes=1):
        raise ValueError(f"{str(text)[:40]!r} is no date and time (RFC 3339): its offset is not of whole minutes")
    return moment


def read_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as wrong:
        raise ValueError(f"there is no time zone {name[:64]!r}") from wrong


def written(moment: datetime) -> str:
    text = moment.isoformat()
    return text.removesuffix("+00:00") + "Z" if moment.utcoffset() == timedelta(0) else text


def datetime_shift(moment: JSON, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> str:
    """A moment some time after another one, or before it."""
    start = read_moment(moment)
    try:
        return written(start + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))
    except (OverflowError, ValueError) as wrong:
        raise ValueError(f"that is out of range: {wrong}") from wrong


def datetime_difference(start: JSON, end: JSON) -> dict[str, float]:
    """The time from one moment to another: `{seconds, days}`."""
    between = read_moment(end) - read_moment(start)
    return {"seconds": between.total_seconds(), "days": between / timedelta(days=1)}


def datetime_format(moment: JSON, format: str, timezone: str = "UTC") -> str:
    """A moment as text, by a format as for strftime."""
    if len(format) > MAX_FORMAT:
        raise ValueError(f"a format has at most {MAX_FORMAT} characters")
    told, zone = read_moment(moment), read_zone(timezone)
    try:
        return told.astimezone(zone).strftime(format)
    except (OverflowError, ValueError) as wrong:
        raise ValueError(f"the moment cannot be written so: {wrong}") from wrong
