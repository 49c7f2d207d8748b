"""Moments as texts (RFC 3339), in UTC where they name no zone: how templates, tools and delays read and write them. Pure.

What cannot be read is a ValueError that says what it was.
"""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.events import JSON


def read_moment(text: JSON) -> datetime:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError(f"{str(text)[:40]!r} is no date and time (RFC 3339)")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as wrong:
        raise ValueError(f"there is no time zone {name[:64]!r}") from wrong


def written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
