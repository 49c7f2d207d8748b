"""Decides when a request is sent again, and after which pause.

A request that may have had an effect is repeated only if the config allows it. The loop is
written by hand: with tenacity it would need own callbacks for the stop, for the pause
(`Retry-After`) and for the last response, and be longer.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from engine.errors import TRANSIENT_STATUSES, NodeFailure
from engine.nodes.http.exchange import HttpResponse, NotSent

SAFE_TO_REPEAT = frozenset(["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
"""The idempotent methods (RFC 9110, section 9.2.2)."""
TOO_MANY_REQUESTS = 429
"""The target has not processed the request, so any method may be repeated."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits of retries. `any_method` also repeats methods that may then take effect twice."""

    attempts: int
    backoff_s: float
    max_wait_s: float
    any_method: bool


OnRetry = Callable[[str, float, int], Awaitable[None]]
"""Receives (reason, pause in seconds, number of the next attempt), and waits for the pause."""


async def with_retries(
    send: Callable[[], Awaitable[HttpResponse]], method: str, policy: RetryPolicy, on_retry: OnRetry
) -> HttpResponse:
    """Send a request until its response is final.

    Args:
        send: Sends the request once.
        method: The HTTP method.
        policy: The limits.
        on_retry: Reports each pause, and waits for it.

    Returns:
        The first response that does not call for another attempt, or the last one.

    Raises:
        NodeFailure: The last attempt failed without a response.
    """
    may_repeat = policy.any_method or method in SAFE_TO_REPEAT
    attempt = 1
    while True:
        pause = _backoff(policy, attempt)
        try:
            response = await send()
        except NodeFailure as failure:
            is_retryable = failure.retryable and failure.code != "HTTP_TIMEOUT" and may_repeat
            if attempt >= policy.attempts or not (is_retryable or isinstance(failure, NotSent)):
                raise
            reason = failure.message
        else:
            requested = retry_after(response)
            is_retryable = response.status in TRANSIENT_STATUSES and (
                may_repeat or response.status == TOO_MANY_REQUESTS
            )
            if attempt >= policy.attempts or not is_retryable or (requested or 0.0) > policy.max_wait_s:
                return response
            reason = f"{response.status} {response.reason}".strip()
            pause = pause if requested is None else requested
        attempt += 1
        await on_retry(reason, pause, attempt)


def _backoff(policy: RetryPolicy, attempt: int) -> float:
    """Return the pause in seconds: exponential with jitter, so clients do not retry together."""
    return min(policy.backoff_s * 2.0 ** (attempt - 1), policy.max_wait_s) * random.uniform(0.5, 1.0)


def retry_after(response: HttpResponse) -> float | None:
    """Return the seconds of `Retry-After` (RFC 9110), or None if it is missing or not valid."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        time = parsedate_to_datetime(value)
    except ValueError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return max((time - datetime.now(UTC)).total_seconds(), 0.0)
