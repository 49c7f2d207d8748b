"""Sends one request, follows its redirects, and reads the response up to a size limit.

Every error becomes a NodeFailure. Nothing is stored: a cancel closes the connection.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2

from engine import tracing
from engine.connection_faults import connection_fault
from engine.errors import NodeFailure
from engine.nodes.http.client import Blocked
from engine.nodes.http.decompression import CodingError, Decompressor
from engine.nodes.http.visible_address import VisibleAddress
from engine.response_headers import headers_problem

_CROSS_ORIGIN_HEADERS = frozenset(
    ["accept", "accept-encoding", "accept-language", "content-length", "content-type", "user-agent"]
)
"""Headers that are also sent to another origin; any other header may be a credential."""

COMPRESSION_OVERHEAD = 16 * 1024
"""How much longer in bytes a compressed body may be than the limit for its content."""


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """The limits of one request.

    `total_s` is the time from connecting to the last byte in seconds, redirects included. Without
    `reads_body` the exchange ends with the headers of the response. `size_field` is the field of the
    config with `max_bytes`, for messages.
    """

    total_s: float
    max_bytes: int
    max_redirects: int
    reads_body: bool = True
    size_field: str = "response.maxBytes"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response.

    `content` is decompressed, `url` is the final address after redirects, and `link_next` is the
    address with rel=next in the `Link` header (RFC 8288). `label` names the request in messages, and
    `visible_url` is the address as the output may show it.
    """

    label: str
    url: str
    visible_url: str
    status: int
    reason: str
    headers: dict[str, str]
    content: bytes
    charset: str | None
    link_next: str | None


class NotSent(NodeFailure):
    """The request did not reach its target, so it is safe to send it again."""


async def exchange(
    client: httpx2.AsyncClient,
    request: httpx2.Request,
    limits: ExchangeLimits,
    *,
    resend_body: bool,
    visible: VisibleAddress,
) -> HttpResponse:
    """Send a request and return its response.

    Args:
        client: A guarded client.
        request: The request.
        limits: The limits of time, size and redirects.
        resend_body: Whether a redirect to another origin may send the body there.
        visible: What messages may show of addresses.

    Raises:
        NodeFailure: HTTP_TIMEOUT, HTTP_CONNECT, HTTP_BLOCKED, HTTP_RESPONSE or CONFIG.
    """
    limit, label = asyncio.timeout(limits.total_s), _label(request, visible)
    try:
        async with _failures(request, visible), limit:
            return await _follow(client, request, limits, resend_body, visible)
    except TimeoutError:
        message = f"{label} did not finish within {limits.total_s:g} s"
        raise NodeFailure("HTTP_TIMEOUT", message, retryable=True) from None


async def _follow(
    client: httpx2.AsyncClient,
    request: httpx2.Request,
    limits: ExchangeLimits,
    resend_body: bool,
    visible: VisibleAddress,
) -> HttpResponse:
    for _ in range(limits.max_redirects + 1):
        response = await _send(client, request)
        try:
            if (problem := headers_problem(response.headers.raw)) is not None:
                raise NodeFailure("HTTP_RESPONSE", f"{_label(request, visible)}: {problem}")
            if limits.max_redirects == 0 or not response.has_redirect_location:
                return await _read(response, limits, visible)
            request = _redirected(response, resend_body, visible)
        finally:
            await response.aclose()
    message = f"{_label(request, visible)} was redirected more than {limits.max_redirects} times"
    raise NodeFailure("HTTP_RESPONSE", message)


async def _send(client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    """Send one request, with the context of the trace unless the author has set one."""
    with tracing.span(request.method, "client", {"http.request.method": request.method}) as span:
        if (carrier := tracing.current_carrier()) is not None and "traceparent" not in request.headers:
            request.headers.update(carrier)
        response = await client.send(request, stream=True, follow_redirects=False)
        if span is not None:
            span.set_attribute("http.response.status_code", response.status_code)
        return response


def _redirected(response: httpx2.Response, resend_body: bool, visible: VisibleAddress) -> httpx2.Request:
    """Return the request of a redirect, without credentials if it leads to another origin."""
    before, following = response.request, response.next_request
    label = _label(before, visible)
    if following is None:
        raise NodeFailure("HTTP_RESPONSE", f"{label} redirects to an invalid address")
    if following.url.scheme not in ("http", "https") or following.url.userinfo:
        raise NodeFailure("HTTP_BLOCKED", f"{label} redirects to an address that is not plain http or https")
    if is_cross_origin(before.url, following.url):
        if following.method not in ("GET", "HEAD") and not resend_body:
            host = visible.host(following.url.host)
            raise NodeFailure(
                "HTTP_BLOCKED", f"{label} redirects to {host}, which must not receive a body with secrets"
            )
        following.headers = httpx2.Headers(
            [*cross_origin_headers(following.headers), ("host", following.headers["host"])]
        )
    return following


def is_cross_origin(before: httpx2.URL, after: httpx2.URL) -> bool:
    """Return whether the addresses have different origins.

    An upgrade from http to https has not.
    """
    is_upgrade = (before.scheme, after.scheme) == ("http", "https") and before.host == after.host
    return before.origin != after.origin and not (is_upgrade and before.port is None and after.port is None)


def cross_origin_headers(headers: httpx2.Headers) -> list[tuple[str, str]]:
    """Return the headers that may be sent to another origin."""
    return [(key, value) for key, value in headers.multi_items() if key in _CROSS_ORIGIN_HEADERS]


async def _read(response: httpx2.Response, limits: ExchangeLimits, visible: VisibleAddress) -> HttpResponse:
    content = await _content(response, limits, visible) if limits.reads_body else b""
    url = str(response.url.copy_with(fragment=None))
    return HttpResponse(
        _label(response.request, visible),
        url,
        visible.output(url),
        response.status_code,
        response.reason_phrase,
        dict(response.headers),
        content,
        response.charset_encoding,
        response.links.get("next", {}).get("url"),
    )


async def _content(response: httpx2.Response, limits: ExchangeLimits, visible: VisibleAddress) -> bytes:
    """Read the body of the response.

    The limit applies before and after decompression: a small body may expand to any size, and a
    large one to nothing. Each piece of a body that expands lets the event loop run.
    """
    label, max_bytes = _label(response.request, visible), limits.max_bytes
    too_large = f"{label} returned more than {max_bytes:,} bytes, the limit in `{limits.size_field}`"
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes and response.request.method != "HEAD":
        raise NodeFailure("HTTP_RESPONSE", too_large)
    content, read_count = bytearray(), 0
    decompressor = Decompressor(response.headers.get("content-encoding", ""))
    async for chunk in response.aiter_raw():
        read_count += len(chunk)
        for piece in decompressor.feed(chunk):
            content += piece
            if max(len(content), read_count - COMPRESSION_OVERHEAD) > max_bytes:
                raise NodeFailure("HTTP_RESPONSE", too_large)
            await asyncio.sleep(0)
    decompressor.finish()
    return bytes(content)


@asynccontextmanager
async def _failures(request: httpx2.Request, visible: VisibleAddress) -> AsyncIterator[None]:
    """Map the exceptions of httpx2 to NodeFailures."""
    label = _label(request, visible)
    try:
        yield
    except Blocked as blocked:
        host = visible.host(blocked.host)
        message = (
            f"{host} is not on the public internet; the administrator of Treadle can allow it with TREADLE_HTTP_ALLOW"
        )
        raise NodeFailure("HTTP_BLOCKED", message) from blocked
    except httpx2.ConnectTimeout as timed_out:
        raise NotSent("HTTP_TIMEOUT", f"{label}: no connection in time", retryable=True) from timed_out
    except (httpx2.ConnectError, httpx2.UnsupportedProtocol) as fault:
        raise NotSent("HTTP_CONNECT", f"{label}: no connection: {_reason(fault)}", retryable=True) from fault
    except (httpx2.InvalidURL, httpx2.LocalProtocolError) as fault:
        raise NodeFailure("CONFIG", f"{label} cannot be sent: {_reason(fault)}") from fault
    except CodingError as fault:
        raise NodeFailure("HTTP_RESPONSE", f"{label}: {fault}") from fault
    except httpx2.RequestError as fault:
        message = f"{label}: the connection was lost before the response was complete: {_reason(fault)}"
        raise NodeFailure("HTTP_RESPONSE", message, retryable=True) from fault


def _label(request: httpx2.Request, visible: VisibleAddress) -> str:
    return visible.label(request.method, str(request.url))


def _reason(fault: Exception) -> str:
    return connection_fault(fault) or "the reason is not known"
