"""How uvicorn serves the app: its limits, and a time limit for the headers of each request.

A client that sends its headers slowly, or never, loses its connection; nothing else is lost.
"""

import asyncio
from collections import deque
from functools import partial
from typing import Any

import orjson
import structlog
import uvicorn
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from app.server.asgi import create_app
from app.server.telemetry.request_ids import new_request_id
from app.server.write_buffers import BoundedWrites, WriteBuffers
from app.settings import Settings
from engine.isolation.loop_share import loop_share
from engine.isolation.turns import Owner, working_for
from persistence.problems import ProblemCode

log = structlog.get_logger(__name__)

MAX_HEADERS = 64 * 1024
"""Bytes of the headers of a request."""
TOO_LARGE = f"The headers of the request are larger than {MAX_HEADERS:,} bytes."
MAX_EMPTY = 1024
"""Bytes of empty lines before a request, which RFC 9112 (section 2.2) lets a server skip."""
REFUSAL_S = 1.0
"""Seconds that a connection above the limit may stay open without sending anything."""
MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of a WebSocket message."""
PIECE = 4096
"""Bytes of a socket that are parsed without a look at the share of the event loop: about 100 short messages."""


class TimedHttpProtocol(BoundedWrites, HttpToolsProtocol):
    """uvicorn's protocol with a time limit for headers, and with errors in the shape of GraphQL."""

    def __init__(
        self, *args: Any, headers_s: float, max_connections: int, buffers: WriteBuffers, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.buffers = buffers
        self._headers_s, self._max_connections = headers_s, max_connections
        self._header_bytes, self._is_above_limit, self._is_before_request = 0, False, True
        self._read_bytes = 0
        """Bytes of the address and the headers of the request that the parser has read."""
        self._has_ended_request = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._is_above_limit = len(self.connections) > self._max_connections
        self._start_timer(REFUSAL_S if self._is_above_limit else self._headers_s)

    def data_received(self, data: bytes) -> None:
        if self._is_above_limit:
            # Not before: a client that still sends might not read the response.
            self._refuse(503, "The server has too many connections.")
            return
        self._has_ended_request = False
        super().data_received(data)
        self._time_empty_lines()
        # The end of a body is no empty line and no header. It may come after the response.
        if self._timer is not None and not self._has_ended_request:
            self._header_bytes += len(data)
            if self._is_before_request and self._header_bytes > MAX_EMPTY:
                self._refuse(400, f"More than {MAX_EMPTY:,} bytes of empty lines came before the request.")
            elif self._header_bytes > MAX_HEADERS:
                self._refuse(431, TOO_LARGE)

    def _time_empty_lines(self) -> None:
        """Start the time limit for a client that sends empty lines after a response.

        uvicorn ends its own limit for idle connections at each byte, and no request begins.
        """
        is_idle = self.cycle is not None and self.cycle.response_complete and self._is_before_request
        if is_idle and self._timer is None and self in self.connections and not self.transport.is_closing():
            self._header_bytes = 0
            self._start_timer(self._headers_s)

    def _refuse(self, status: int, message: str) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self._send_error(status, message, ProblemCode.LIMIT)

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        # End the cycle of references with the parser. A garbage collection would not find it if an earlier
        # one has frozen it (worker/gc_tuning.py). uvicorn does so when an HTTP connection ends.
        self.parser = None  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes, self._read_bytes, self._is_before_request = 0, 0, False
        self._start_timer(self._headers_s)

    def on_url(self, url: bytes) -> None:
        self._read_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._read_bytes += len(name) + len(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        if self._read_bytes > MAX_HEADERS:
            raise ValueError  # The parser reports it to `send_400_response`.
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._is_before_request = self._has_ended_request = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._stop_timer()
        if self._read_bytes > MAX_HEADERS:
            self._refuse(431, TOO_LARGE)
        else:
            self._send_error(400, f"{msg} It is not HTTP/1.1.")

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._send_error(408, f"The headers of the request have not arrived within {self._headers_s:g} s.")

    def _send_error(self, status: int, message: str, code: ProblemCode = ProblemCode.VALIDATION) -> None:
        self.transport.write(_error_response(status, message, code))
        self.transport.close()


class WebSocketProtocol(BoundedWrites, WebSocketsSansIOProtocol):
    """uvicorn's protocol, which answers a handshake that cannot be read.

    It does not report a handshake that the app has refused as a fault. One read may have 256 KiB, which
    are thousands of short messages, or the end of a large one. So it is parsed in pieces, and all sockets
    together take the share of the event loop that long work may have.
    """

    def __init__(self, *args: Any, buffers: WriteBuffers, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buffers = buffers
        self._pieces: deque[bytes] = deque()
        self._parsing: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        self._pieces.extend(data[start : start + PIECE] for start in range(0, len(data), PIECE))
        if self._parsing is None and not self._parse_within_share():
            self.transport.pause_reading()
            with working_for(Owner(caller=self.client[0] if self.client else "")):
                self._parsing = self.loop.create_task(self._parse_in_turns(), name="bytes of a socket")

    def connection_lost(self, exc: Exception | None) -> None:
        # A client may send its last messages and leave at once.
        while self._pieces:
            self._parse(self._pieces.popleft())
        super().connection_lost(exc)

    async def _parse_in_turns(self) -> None:
        try:
            while not self._parse_within_share():
                await loop_share().turn()
        finally:
            self._parsing = None
        # While messages wait for the app, it resumes the reading itself.
        if not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _parse_within_share(self) -> bool:
        """Parse what has arrived, as far as the share of the event loop allows. Returns whether that was all."""
        share = loop_share()
        while self._pieces and not share.is_used_up:
            self._parse(self._pieces.popleft())
        return not self._pieces

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        # Without an answer the connection would stay open, and no time limit would end it.
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.close_sent:
            self.close_sent = True
            self.transport.write(_error_response(*_handshake_refusal(self.conn.handshake_exc)))
            self.transport.close()

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True


def _handshake_refusal(fault: Exception) -> tuple[int, str, ProblemCode]:
    """Return status, message and code for a handshake that cannot be read."""
    if isinstance(fault, RequestLineTooLong):
        return 414, f"The address of a WebSocket has at most {MAX_LINE_LENGTH:,} bytes.", ProblemCode.LIMIT
    if isinstance(fault, HeaderLineTooLong):
        message = f"A header of a WebSocket handshake has at most {MAX_LINE_LENGTH:,} bytes."
        return 431, message, ProblemCode.LIMIT
    if isinstance(fault, TooManyHeaders):
        return 431, f"A WebSocket handshake has at most {MAX_NUM_HEADERS} headers.", ProblemCode.LIMIT
    return 400, "The WebSocket handshake must be a GET request without a body (RFC 6455).", ProblemCode.VALIDATION


def _error_response(status: int, message: str, code: ProblemCode) -> bytes:
    """Return a whole response of HTTP/1.1 with an error in the shape of GraphQL."""
    request_id = new_request_id()
    extensions = {"code": code, "requestId": request_id}
    body = orjson.dumps({"errors": [{"message": message, "extensions": extensions}]})
    headers = (
        b"content-type: application/json; charset=utf-8\r\nconnection: close\r\n"
        b"x-request-id: %s\r\ncontent-length: %d\r\n\r\n"
    )
    log.debug("request.refused", request_id=request_id, status=status, reason=message)
    return STATUS_LINE[status] + headers % (request_id.encode(), len(body)) + body


def server_config(settings: Settings) -> uvicorn.Config:
    """Return the configuration of a server process."""
    buffers = WriteBuffers()
    http = partial(
        TimedHttpProtocol, headers_s=settings.request_s, max_connections=settings.connections, buffers=buffers
    )
    return uvicorn.Config(
        create_app(settings),
        http=http,  # type: ignore[arg-type]
        ws=partial(WebSocketProtocol, buffers=buffers),  # type: ignore[arg-type]
        forwarded_allow_ips=settings.trusted_proxies,
        log_level="warning",
        log_config=None,
        ws_ping_interval=20,
        ws_max_size=MAX_MESSAGE,
        # A deflate context needs more memory than the rest of a socket. On small messages it costs
        # more time than it saves.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=5,
    )
