"""Content negotiation of GraphQL responses by `Accept` (RFC 9110, section 12.5.1).

Queries and mutations are answered with JSON unless the client accepts an event stream only.
Subscriptions need an event stream that the client names. `operations` calls it for each request.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

RESPONSE_JSON = "application/graphql-response+json"
"""The media type of GraphQL over HTTP: its status codes tell whether the operation was executed."""
PLAIN_JSON = "application/json"
EVENT_STREAM = "text/event-stream"
MULTIPART = "multipart/mixed"


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an `Accept` header."""

    type: str
    quality: float = 1.0
    parameters: Mapping[str, str] = field(default_factory=dict)

    def specificity(self, type: str) -> int:
        """Return how specifically the range matches a media type; 0 if it does not match."""
        if self.type == type:
            return 3
        if self.type == type.partition("/")[0] + "/*":
            return 2
        return int(self.type == "*/*")


@dataclass(frozen=True, slots=True)
class Acceptable:
    """The media types of responses that a client accepts; None where it accepts none of the kind."""

    json: str | None
    stream: str | None


@lru_cache(maxsize=64)
def acceptable(accept: str | None) -> Acceptable:
    """Select the best JSON type and the best event stream for a value of `Accept`.

    Args:
        accept: The header; None or an empty text accepts everything, which selects plain JSON.
    """
    ranges = list(media_ranges(accept or "*/*"))
    return Acceptable(_json(ranges), _stream(ranges))


def media_ranges(accept: str) -> Iterator[MediaRange]:
    """Yield the elements of an `Accept` header. An element with an invalid `q` has quality 0."""
    for element in accept.split(","):
        type, *pairs = (part.strip() for part in element.split(";"))
        if type:
            parameters = {name.strip().lower(): value.strip(" \"'") for name, _, value in _split(pairs)}
            yield MediaRange(type.lower(), _quality(parameters.pop("q", "1")), parameters)


def accepts_encoding(accept_encoding: str | None, coding: str) -> bool:
    """Return whether an `Accept-Encoding` header names a coding with a quality above 0."""
    return any(range.type == coding and range.quality > 0 for range in media_ranges(accept_encoding or ""))


def _split(pairs: list[str]) -> list[tuple[str, str, str]]:
    return [pair.partition("=") for pair in pairs]


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


def _json(ranges: list[MediaRange]) -> str | None:
    """Return the JSON type of the best quality. A wildcard alone selects plain JSON."""
    (quality, specificity), (plain_quality, plain_specificity) = (
        _match(ranges, type) for type in (RESPONSE_JSON, PLAIN_JSON)
    )
    if not max(quality, plain_quality):
        return None
    if (quality, specificity) >= (plain_quality, plain_specificity) and (specificity == 3 or quality > plain_quality):
        return RESPONSE_JSON
    return PLAIN_JSON


def _match(ranges: list[MediaRange], type: str) -> tuple[float, int]:
    """Return the quality of a type, by its most specific range, and how specific that range is."""
    specificity, quality = max(((range.specificity(type), range.quality) for range in ranges), default=(0, 0.0))
    return (quality, specificity) if specificity else (0.0, 0)


def _stream(ranges: list[MediaRange]) -> str | None:
    """Return the stream of the best quality among those that are named; the first of equal ones.

    A multipart response without `subscriptionSpec` is for incremental delivery, not for events.
    """
    named = [
        range
        for range in ranges
        if range.type == EVENT_STREAM
        or (range.type == MULTIPART and range.parameters.get("subscriptionspec", "").startswith("1."))
    ]
    best = max(named, key=lambda range: range.quality, default=None)
    return best.type if best is not None and best.quality > 0 else None
