"""The limits of the headers of a response, for every peer that a node calls.

HTTP libraries read up to 100 KB of headers, and take quadratic time for many of them, or for a
long media type. Pure.
"""

from collections.abc import Sequence

MAX_HEADERS = 200
"""Headers of a response."""
MAX_BYTES = 32 * 1024
"""Bytes of all headers of a response, with their names."""
MAX_MEDIA_TYPE = 1024
"""Bytes of `content-type`, whose parameters the libraries of Python parse in quadratic time."""


def headers_problem(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return why the headers of a response are refused, or None."""
    if len(headers) > MAX_HEADERS:
        return f"the response has more than {MAX_HEADERS} headers"
    if sum(len(name) + len(value) for name, value in headers) > MAX_BYTES:
        return f"the headers of the response are larger than {MAX_BYTES // 1024} KiB"
    if any(name.lower() == b"content-type" and len(value) > MAX_MEDIA_TYPE for name, value in headers):
        return f"the media type of the response is longer than {MAX_MEDIA_TYPE:,} bytes"
    return None
