"""ASGI middleware that limits the size of request bodies, and the time in which they arrive.

A body is refused as soon as it exceeds a limit, with a GraphQL error of the code LIMIT. To parse 4 MiB of
JSON takes up to a tenth of a second, in which Python executes nothing else. So large bodies and messages
are parsed in a thread, in turn, with a pause after each. Their bytes are counted by address until the
operation has ended, because its values need many times as much memory. Nothing is stored.
"""

import asyncio
import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.responses import problem_response
from engine.isolation.threads import FairThreads
from engine.isolation.turns import Owner, working_for
from persistence.problems import Limit

ResultT = TypeVar("ResultT")
MAX_BODY = 4 * 1024 * 1024
"""Bytes. A spec and an input of 1 MiB each, their own limits, fit with all JSON escapes."""
LARGE = 64 * 1024
"""Bytes from which a body is large. To parse this takes less than 3 ms."""
MOST = {"lists and objects": (b"[{", 200_000), "members of objects": (b":", 250_000), "values": (b",", 1_000_000)}
"""How much of each a large body may have, and the characters that count them. Each needs much more memory,
and time to parse, than its text."""
PER_ADDRESS, TOTAL = 32 * 1024 * 1024, 128 * 1024 * 1024
"""Bytes of large bodies that are in progress at once: of one address, and of all."""
PIECE = 32 * 1024
"""Bytes that are counted in one step. Python changes the thread only between steps."""
_threads = FairThreads("decoding", 1, 1)


def address_of(scope: Scope) -> str:
    """Return the address of a client; behind a proxy on this host, the one that the proxy names."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


class SlowBody(Limit):
    """The body of a request has not arrived in time."""

    title, status = "Request timeout", 408


class BodyLimit:
    """Limits HTTP request bodies to `max_bytes`, which must arrive in `max_s` seconds."""

    def __init__(self, app: ASGIApp, max_s: float, max_bytes: int = MAX_BODY) -> None:
        self._app, self._max, self._max_s = app, max_bytes, max_s
        self._message = f"The request is larger than {max_bytes:,} bytes."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        content_length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        try:
            if content_length.isdigit() and int(content_length) > self._max:
                raise Limit(self._message)
            with ExitStack() as held:
                await self._app(scope, self._counted(receive, address_of(scope), held), send)
        except Limit as limit:
            await problem_response(limit.status, limit.code, limit.detail)(scope, receive, send)

    def _counted(self, receive: Receive, address: str, held: ExitStack) -> Receive:
        received, counted, is_complete = 0, 0, False
        deadline = asyncio.get_running_loop().time() + self._max_s

        async def receive_counted() -> Message:
            nonlocal received, counted, is_complete
            if is_complete:  # What follows is the end of the connection.
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise SlowBody(f"The body of the request has not arrived within {self._max_s:g} s.") from None
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if received > self._max:
                raise Limit(self._message)
            if received > LARGE:
                held.enter_context(large_bodies.hold(address, received - counted))
                counted = received
            return message

        return receive_counted


class TooManyLargeBodies(Limit):
    """The large bodies of an address, or of all, that are in progress are too many bytes.

    The same request succeeds after one of them has ended.
    """

    title, status = "Too many large requests", 429


class LargeBodies:
    """Counts the bytes of the large bodies that are in progress, by address."""

    def __init__(self) -> None:
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def hold(self, address: str, size: int) -> Iterator[None]:
        """Count the bytes of a body for the duration of the block. Raises TooManyLargeBodies."""
        if self._bytes[address] + size > PER_ADDRESS or self._bytes.total() + size > TOTAL:
            raise TooManyLargeBodies(
                f"The large requests in progress are {PER_ADDRESS // 2**20} MiB of your address, or "
                f"{TOTAL // 2**20} MiB of all, which is the limit. Try again when one of them has ended."
            )
        self._bytes[address] += size
        try:
            yield
        finally:
            self._bytes[address] -= size
            if not self._bytes[address]:
                del self._bytes[address]


large_bodies = LargeBodies()


async def decoded_in_turn(decode: Callable[[str | bytes], ResultT], text: str | bytes, subject: str) -> ResultT:
    """Decode a large JSON text, when it is the turn of its sender.

    Raises:
        Limit: It has too many lists and objects.
        ValueError: What `decode` raises.
    """
    with working_for(Owner(subject, subject)):
        return await _threads.run(_decode, decode, text)


def _decode(decode: Callable[[str | bytes], ResultT], text: str | bytes) -> ResultT:
    """Decode a text, and leave the process to others for as long as this took."""
    started_at = time.perf_counter()
    try:
        _check_counts(text)
        with _no_collection():
            return decode(text)
    finally:
        time.sleep(time.perf_counter() - started_at)


def _check_counts(text: str | bytes) -> None:
    """Raise Limit if a JSON text has too much of something; see MOST."""
    data = text.encode(errors="replace") if isinstance(text, str) else text
    if _first_excess(_pieces(data)) is None:
        return
    # Without the texts in it, in which these are ordinary characters.
    if (excess := _first_excess(_outside_of_texts(data))) is not None:
        name, count, most = excess
        raise Limit(f"The request has {count:,} {name}, over the limit of {most:,}.")


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + PIECE] for start in range(0, len(data), PIECE))


def _outside_of_texts(data: bytes) -> Iterator[bytes]:
    """Yield what is outside of the texts of a JSON document."""
    is_inside, held = False, b""
    for piece in _pieces(data):
        joined = held + piece
        # An odd number of backslashes at the end escapes the first character of the next piece.
        is_split = (len(joined) - len(joined.rstrip(b"\\"))) % 2 == 1
        joined, held = (joined[:-1], b"\\") if is_split else (joined, b"")
        parts = joined.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')
        yield b"".join(parts[int(is_inside) :: 2])
        is_inside ^= len(parts) % 2 == 0


def _first_excess(pieces: Iterable[bytes]) -> tuple[str, int, int] | None:
    counts = Counter[str]()
    for piece in pieces:
        for name, (characters, _) in MOST.items():
            counts[name] += sum(map(piece.count, characters))
    return next(((name, counts[name], most) for name, (_, most) in MOST.items() if counts[name] > most), None)


_collection_lock = threading.Lock()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage inside the block. Every list would count as a reason to search again.

    The next collection would visit a million new lists, which have no cycles: they are frozen
    (worker/gc_tuning.py).
    """
    with _collection_lock:
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()
