"""Built-in tools whose time is bounded by the length of their input."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from engine.tools.isolated import InvalidArguments
from engine.types import JSON
from engine.values import timestamps

T = TypeVar("T")

Timestamp = Annotated[
    str, Field(description="Date and time (RFC 3339); UTC if it has no zone.", examples=["2030-01-31T09:00:00Z"])
]
Zone = Annotated[str, Field(max_length=64, description="A time zone.", examples=["Europe/Berlin"])]
MAX_SPLIT = 1_000_000
"""Characters of a text that is split."""


def hash_text(
    *,
    text: Annotated[str, Field(description="The text to hash, as UTF-8.")],
    algorithm: Annotated[
        Literal["sha256", "sha384", "sha512", "sha1", "md5", "blake2b"], Field(description="The algorithm.")
    ] = "sha256",
    key: Annotated[str | None, Field(description="With a key, the result is an HMAC.")] = None,
    encoding: Annotated[Literal["hex", "base64"], Field(description="The encoding of the result.")] = "hex",
) -> JSON:
    """Hashes a text, or signs it with a key (HMAC)."""
    if key is None:
        digest = hashlib.new(algorithm, text.encode(), usedforsecurity=False).digest()
    else:
        digest = hmac.digest(key.encode(), text.encode(), algorithm)
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode("ascii")


def base64_encode(
    *,
    text: Annotated[str, Field(description="The text to encode, as UTF-8.")],
    url_safe: Annotated[bool, Field(description="Use - and _ instead of + and /.")] = False,
) -> JSON:
    """Encodes a text as base64."""
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    return encode(text.encode()).decode("ascii")


def base64_decode(
    *, text: Annotated[str, Field(description="Base64 of UTF-8 text; either alphabet, with or without padding.")]
) -> JSON:
    """Decodes base64 to a text."""
    plain = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True).decode()
    except UnicodeDecodeError as error:
        raise InvalidArguments("the decoded bytes are no UTF-8 text") from error
    except ValueError as error:
        message = "this is no base64: it has a character that base64 does not have, or a part is missing"
        raise InvalidArguments(message) from error


def datetime_now(*, timezone: Zone = "UTC") -> JSON:
    """The current date and time."""
    return timestamps.format_timestamp(datetime.now(_call(timestamps.find_time_zone, timezone)))


def datetime_shift(
    *,
    moment: Timestamp,
    days: Annotated[float, Field(description="To add; a negative number subtracts.")] = 0,
    hours: Annotated[float, Field(description="To add.")] = 0,
    minutes: Annotated[float, Field(description="To add.")] = 0,
    seconds: Annotated[float, Field(description="To add.")] = 0,
) -> JSON:
    """Adds a duration to a time."""
    return _call(timestamps.datetime_shift, moment, days=days, hours=hours, minutes=minutes, seconds=seconds)


def datetime_difference(*, start: Timestamp, end: Timestamp) -> JSON:
    """The duration between two times, in seconds and in days."""
    return _call(timestamps.datetime_difference, start, end)


def datetime_format(
    *,
    moment: Timestamp,
    format: Annotated[
        str, Field(max_length=timestamps.MAX_FORMAT, description="A format of strftime.", examples=["%d.%m.%Y %H:%M"])
    ],
    timezone: Zone = "UTC",
) -> JSON:
    """Formats a time in a time zone."""
    return _call(timestamps.datetime_format, moment, format, timezone)


def _call(function: Callable[..., T], *args: JSON, **kwargs: JSON) -> T:
    """Call a function that raises ValueError for invalid arguments."""
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        raise InvalidArguments(str(error)) from error


async def text_split(
    *,
    text: Annotated[str, Field(max_length=MAX_SPLIT, description="The text to split.")],
    size: Annotated[int, Field(ge=1, le=100_000, description="Maximum number of characters of a piece.")] = 1000,
    overlap: Annotated[
        int, Field(ge=0, description="Characters that two adjacent pieces share; at most half of `size`.")
    ] = 0,
    format: Annotated[
        Literal["text", "markdown", "html", "python"],
        Field(description="The kind of text, which decides where it is split."),
    ] = "text",
) -> JSON:
    """Splits a text into pieces for a model, at paragraphs, else at lines, sentences or words."""
    if overlap * 2 > size:
        raise InvalidArguments("`overlap` is more than half of `size`")
    return await asyncio.to_thread(_split, text, int(size), int(overlap), format)


def _split(text: str, size: int, overlap: int, kind: str) -> list[str]:
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    if kind == "text":
        splitter = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap)
    else:
        splitter = RecursiveCharacterTextSplitter.from_language(Language(kind), chunk_size=size, chunk_overlap=overlap)
    return splitter.split_text(text)


INLINE: tuple[Callable[..., Any], ...] = (
    hash_text, base64_encode, base64_decode, datetime_now, datetime_shift, datetime_difference, datetime_format, text_split,
)  # fmt: skip
