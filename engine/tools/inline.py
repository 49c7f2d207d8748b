"""Tools that take no longer than their text is long: hashes, encodings, moments, and text cut to pieces."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from engine.tools.isolated import Wrong
from engine.types import JSON
from engine.values import timestamps

T = TypeVar("T")

Moment = Annotated[
    str, Field(description="Date and time (RFC 3339); UTC where it names no zone.", examples=["2030-01-31T09:00:00Z"])
]
Zone = Annotated[str, Field(max_length=64, description="A time zone.", examples=["Europe/Berlin"])]
MAX_SPLIT = 1_000_000
"""Characters of a text that is cut to pieces."""


def hash_text(
    *,
    text: Annotated[str, Field(description="What is hashed, as UTF-8.")],
    algorithm: Annotated[
        Literal["sha256", "sha384", "sha512", "sha1", "md5", "blake2b"], Field(description="How.")
    ] = "sha256",
    key: Annotated[str | None, Field(description="With a key the result is an HMAC.")] = None,
    encoding: Annotated[Literal["hex", "base64"], Field(description="How the result is written.")] = "hex",
) -> JSON:
    """Hashes a text, or signs it with a key (HMAC)."""
    if key is None:
        digest = hashlib.new(algorithm, text.encode(), usedforsecurity=False).digest()
    else:
        digest = hmac.digest(key.encode(), text.encode(), algorithm)
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode("ascii")


def base64_encode(
    *,
    text: Annotated[str, Field(description="What is encoded, as UTF-8.")],
    url_safe: Annotated[bool, Field(description="With - and _ in place of + and /.")] = False,
) -> JSON:
    """Writes a text as base64."""
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    return encode(text.encode()).decode("ascii")


def base64_decode(
    *, text: Annotated[str, Field(description="Base64 of UTF-8 text; either alphabet, with or without padding.")]
) -> JSON:
    """Reads a text out of base64."""
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode()
    except UnicodeDecodeError as wrong:
        raise Wrong("this is base64 of something that is no UTF-8 text") from wrong
    except ValueError as wrong:
        raise Wrong(f"this is no base64: {wrong}") from wrong


def datetime_now(*, timezone: Zone = "UTC") -> JSON:
    """The current date and time."""
    return timestamps.format_timestamp(datetime.now(_done(timestamps.find_time_zone, timezone)))


def datetime_shift(
    *,
    moment: Moment,
    days: Annotated[float, Field(description="To add; below zero to take away.")] = 0,
    hours: Annotated[float, Field(description="To add.")] = 0,
    minutes: Annotated[float, Field(description="To add.")] = 0,
    seconds: Annotated[float, Field(description="To add.")] = 0,
) -> JSON:
    """A moment some time before or after another one."""
    return _done(timestamps.datetime_shift, moment, days=days, hours=hours, minutes=minutes, seconds=seconds)


def datetime_difference(*, start: Moment, end: Moment) -> JSON:
    """The time between two moments, in seconds and in days."""
    return _done(timestamps.datetime_difference, start, end)


def datetime_format(
    *,
    moment: Moment,
    format: Annotated[
        str, Field(max_length=timestamps.MAX_FORMAT, description="As for strftime.", examples=["%d.%m.%Y %H:%M"])
    ],
    timezone: Zone = "UTC",
) -> JSON:
    """A moment as text, in a time zone."""
    return _done(timestamps.datetime_format, moment, format, timezone)


def _done(function: Callable[..., T], *given: JSON, **named: JSON) -> T:
    try:
        return function(*given, **named)
    except ValueError as wrong:
        raise Wrong(str(wrong)) from wrong


async def text_split(
    *,
    text: Annotated[str, Field(max_length=MAX_SPLIT, description="The text to cut.")],
    size: Annotated[int, Field(ge=1, le=100_000, description="Characters a piece has at most.")] = 1000,
    overlap: Annotated[
        int, Field(ge=0, description="Characters that two neighbours share; at most half of `size`.")
    ] = 0,
    format: Annotated[
        Literal["text", "markdown", "html", "python"], Field(description="Where it is best cut.")
    ] = "text",
) -> JSON:
    """Cuts a text into pieces for a model: at paragraphs where that fits, else at lines, sentences and words."""
    if overlap * 2 > size:
        raise Wrong("`overlap` is more than half of `size`")
    return await asyncio.to_thread(_split, text, int(size), int(overlap), format)


def _split(text: str, size: int, overlap: int, kind: str) -> list[str]:
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    if kind == "text":
        splitter = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap)
    else:
        splitter = RecursiveCharacterTextSplitter.from_language(Language(kind), chunk_size=size, chunk_overlap=overlap)
    return splitter.split_text(text)


LIGHT: tuple[Callable[..., Any], ...] = (
    hash_text, base64_encode, base64_decode, datetime_now, datetime_shift, datetime_difference, datetime_format, text_split,
)  # fmt: skip
