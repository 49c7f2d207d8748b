"""One request and its answer: redirects followed, the body read up to a limit, and every way it can go wrong named.

Nothing is kept: a cancel closes the connection wherever it stands.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2

from engine.errors import NodeFailure
from engine.nodes.http.client import Blocked

_GO_ELSEWHERE = frozenset(
    ["accept", "accept-encoding", "accept-language", "content-length", "content-type", "user-agent"]
)
"""Headers that another origin may see; any other may be a key."""


@dataclass(frozen=True, slots=True)
class ExchangeLimits:
    """For one request. `total_s` is the time from connecting to the last byte, redirects included."""

    total_s: float
    max_bytes: int
    max_redirects: int


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """`content` is decompressed; `url` is where the last redirect led; `link_next` what its `Link` header names as next."""

    method: str
    url: str
    status: int
    reason: str
    headers: dict[str, str]
    content: bytes
    charset: str | None
    link_next: str | None


class Unsent(NodeFailure):
    """The request never reached its target: whatever it asks for, it may be sent again."""


async def exchange(
    client: httpx2.AsyncClient, request: httpx2.Request, limits: ExchangeLimits, *, resend_body: bool
) -> HttpAnswer:
    """Raises NodeFailure. `resend_body` says whether another origin may be sent the body, should a redirect ask for it."""
    limit = asyncio.timeout(limits.total_s)
    try:
        async with _named(request), limit:
            return await _following(client, request, limits, resend_body)
    except TimeoutError:
        told = f"{name(request)} did not finish within {limits.total_s:g} s"
        raise NodeFailure("HTTP_TIMEOUT", told, retryable=True) from None


async def _following(
    client: httpx2.AsyncClient, request: httpx2.Request, limits: ExchangeLimits, resend_body: bool
) -> HttpAnswer:
    for _ in range(limits.max_redirects + 1):
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            if limits.max_redirects == 0 or not response.has_redirect_location:
                return await _read(response, limits.max_bytes)
            request = _redirected(response, resend_body)
        finally:
            await response.aclose()
    raise NodeFailure("HTTP_RESPONSE", f"{name(request)} was redirected more than {limits.max_redirects} times")


def _redirected(response: httpx2.Response, resend_body: bool) -> httpx2.Request:
    before, following = response.request, response.next_request
    if following is None:
        raise NodeFailure("HTTP_RESPONSE", f"{name(before)} redirects to something that is no address")
    if following.url.scheme not in ("http", "https") or following.url.userinfo:
        raise NodeFailure("HTTP_BLOCKED", f"{name(before)} redirects to an address that is not plain http or https")
    if is_elsewhere(before.url, following.url):
        if following.method not in ("GET", "HEAD") and not resend_body:
            told = f"{name(before)} redirects to {following.url.host}, which must not see a body with secrets in it"
            raise NodeFailure("HTTP_BLOCKED", told)
        following.headers = httpx2.Headers([*fit_for_elsewhere(following.headers), ("host", following.headers["host"])])
    return following


def is_elsewhere(before: httpx2.URL, after: httpx2.URL) -> bool:
    """Whether it is another origin; the same host by https in place of http is not."""
    is_upgrade = (before.scheme, after.scheme) == ("http", "https") and before.host == after.host
    return before.origin != after.origin and not (is_upgrade and before.port is None and after.port is None)


def fit_for_elsewhere(headers: httpx2.Headers) -> list[tuple[str, str]]:
    return [(key, value) for key, value in headers.multi_items() if key in _GO_ELSEWHERE]


async def _read(response: httpx2.Response, max_bytes: int) -> HttpAnswer:
    """The body is counted as it comes out of decompression: a small one may unpack to anything."""
    too_large = (
        f"{name(response.request)} answered with more than {max_bytes:,} bytes; `response.maxBytes` is the limit"
    )
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes and response.request.method != "HEAD":
        raise NodeFailure("HTTP_RESPONSE", too_large)
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > max_bytes:
            raise NodeFailure("HTTP_RESPONSE", too_large)
    return HttpAnswer(
        response.request.method,
        str(response.url.copy_with(fragment=None)),
        response.status_code,
        response.reason_phrase,
        dict(response.headers),
        bytes(content),
        response.charset_encoding,
        response.links.get("next", {}).get("url"),
    )


@asynccontextmanager
async def _named(request: httpx2.Request) -> AsyncIterator[None]:
    """Whatever httpx2 raises, as a failure of the node."""
    what = name(request)
    try:
        yield
    except Blocked as blocked:
        told = f"{blocked}; whoever hosts Treadle can open it with TREADLE_HTTP_ALLOW"
        raise NodeFailure("HTTP_BLOCKED", told) from blocked
    except httpx2.ConnectTimeout as late:
        raise Unsent("HTTP_TIMEOUT", f"{what}: no connection in time", retryable=True) from late
    except (httpx2.ConnectError, httpx2.UnsupportedProtocol) as fault:
        raise Unsent("HTTP_CONNECT", f"{what}: no connection: {_said(fault)}", retryable=True) from fault
    except (httpx2.InvalidURL, httpx2.LocalProtocolError) as fault:
        raise NodeFailure("CONFIG", f"{what} cannot be sent: {_said(fault)}") from fault
    except (httpx2.DecodingError, ImportError) as fault:
        raise NodeFailure("HTTP_RESPONSE", f"{what}: the body cannot be unpacked: {_said(fault)}") from fault
    except httpx2.RequestError as fault:
        told = f"{what}: the connection broke before the answer was whole: {_said(fault)}"
        raise NodeFailure("HTTP_RESPONSE", told, retryable=True) from fault


def name(request: httpx2.Request) -> str:
    """A request as messages show it: without its query, which may hold a key."""
    return shown(request.method, str(request.url))


def shown(method: str, url: str) -> str:
    parts = urlsplit(url)
    return f"{method} {parts.scheme}://{parts.netloc}{parts.path}"[:300]


def _said(fault: Exception) -> str:
    return (str(fault) or type(fault).__name__)[:300]
