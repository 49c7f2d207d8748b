"""Sends a message to an endpoint, through the guard against private addresses (SSRF).

A redirect is a failure: it is not followed, so it leads nowhere. The body of the response is not read.
"""

from dataclasses import dataclass

import httpx2

from engine.errors import NodeFailure
from engine.nodes.http.client import GuardedHttp
from engine.nodes.http.exchange import ExchangeLimits, exchange
from engine.nodes.http.visible_address import VisibleAddress, origin_of

TIMEOUT_S = 15.0
"""The time of one attempt, from connecting to the status of the response, in seconds."""
_LIMITS = ExchangeLimits(TIMEOUT_S, 0, 0, reads_body=False)
_GONE = 410


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one attempt. `error` is None if the endpoint has accepted the message."""

    status: int | None
    error: str | None
    retry_after_s: float | None = None
    is_gone: bool = False
    """Whether the endpoint wants no more messages."""


async def send(http: GuardedHttp, url: str, headers: dict[str, str], body: bytes) -> Attempt:
    """Send a message once. Every error becomes an Attempt with the reason."""
    visible = VisibleAddress(origin_of(url), is_path_hidden=True)
    try:
        async with http.client() as client:
            request = client.build_request("POST", url, headers=headers, content=body)
            response = await exchange(client, request, _LIMITS, resend_body=False, visible=visible)
    except NodeFailure as failure:
        return Attempt(None, failure.message)
    except httpx2.InvalidURL:
        return Attempt(None, "the address of the endpoint is not valid")
    status = response.status
    return Attempt(status, _problem(status), _retry_after(response.headers), status == _GONE)


def _problem(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"the endpoint answered {status}, a redirect, which is not followed: set the address to its target"
    if status == _GONE:
        return "the endpoint answered 410: it wants no more messages"
    return f"the endpoint answered {status}"


def _retry_after(headers: dict[str, str]) -> float | None:
    """Return the seconds of `Retry-After` (RFC 9110). Its form with a date is ignored."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None
