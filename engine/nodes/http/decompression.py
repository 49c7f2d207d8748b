"""Decompresses the body of a response in small pieces, within limits of size.

A small body may expand to any size, and several codings one inside the other to more than that. So
one coding is accepted, no step produces more than PIECE bytes, and the compressed bytes are counted
as well. Pure: nothing here reads from the network.
"""

import zlib
from collections.abc import Iterator

ACCEPTED = "gzip, deflate"
"""The codings that requests accept, as the value of `accept-encoding` (RFC 9110, section 12.5.3)."""
PIECE = 64 * 1024
"""The largest number of bytes that one step produces."""


class CodingError(Exception):
    """The body cannot be decompressed. The text says why, and follows the name of the request."""


class Decompressor:
    """Decompresses one body. `coding` is the value of its `content-encoding`.

    Raises:
        CodingError: It names a coding that requests do not accept, or several.
    """

    def __init__(self, coding: str) -> None:
        name = coding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise CodingError(f"the body has the coding {coding[:100]!r}; only one of {ACCEPTED} is accepted")
        # 47: a gzip or a zlib header, whichever the body has (RFC 1950, RFC 1952).
        self._zlib = None if name in ("", "identity") else zlib.decompressobj(47)
        self._is_deflate, self._is_first = name == "deflate", True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed pieces of some bytes of the body. A piece may be empty.

        Raises:
            CodingError: The bytes are not what the coding demands.
        """
        if self._zlib is None:
            yield data
            return
        while data:
            data, piece = self._step(data)
            yield piece

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the bytes that are left, and the next piece."""
        assert self._zlib is not None
        try:
            piece = self._zlib.decompress(data, PIECE)
        except zlib.error as error:
            if not (self._is_deflate and self._is_first):
                raise CodingError("the body cannot be decompressed") from error
            # Many servers send `deflate` without the header that RFC 9110 demands.
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
            self._is_first = False
            return data, b""
        self._is_first = False
        if self._zlib.eof and self._zlib.unused_data:
            # RFC 1952, section 2.2: a gzip file may have several members.
            rest, self._zlib = self._zlib.unused_data, zlib.decompressobj(47)
            return rest, piece
        return self._zlib.unconsumed_tail, piece

    def finish(self) -> None:
        """Check that the body is complete.

        Raises:
            CodingError: It ends too early.
        """
        if self._zlib is not None and not self._is_first and not self._zlib.eof:
            raise CodingError("the compressed body ends too early")
