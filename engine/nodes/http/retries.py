"""When a request is sent again, and after how long. A request that may have had an effect is not repeated unasked."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from engine.errors import NodeFailure
from engine.nodes.http.exchange import HttpAnswer, Unsent

SAFE_TO_REPEAT = frozenset(["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
TRANSIENT = frozenset([408, 425, 429, 500, 502, 503, 504])
TURNED_AWAY = 429
"""The target says that it has not done anything."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`any_method`: also where a repeat may do a thing twice, such as POST."""

    attempts: int
    backoff_s: float
    max_wait_s: float
    any_method: bool


Told = Callable[[str, float, int], None]
"""(what happened, the pause, the number of the next attempt)"""


async def with_retries(
    send: Callable[[], Awaitable[HttpAnswer]], method: str, policy: Policy, told: Told
) -> HttpAnswer:
    """The first answer that is not worth another attempt, or the last one. Raises NodeFailure."""
    may_repeat = policy.any_method or method in SAFE_TO_REPEAT
    attempt = 1
    while True:
        pause = _backoff(policy, attempt)
        try:
            answer = await send()
        except NodeFailure as failure:
            is_worth = failure.retryable and failure.code != "HTTP_TIMEOUT" and may_repeat
            if attempt >= policy.attempts or not (is_worth or isinstance(failure, Unsent)):
                raise
            what = failure.message
        else:
            asked = retry_after(answer)
            is_worth = answer.status in TRANSIENT and (may_repeat or answer.status == TURNED_AWAY)
            if attempt >= policy.attempts or not is_worth or (asked or 0.0) > policy.max_wait_s:
                return answer
            what = f"{answer.status} {answer.reason}".strip()
            pause = pause if asked is None else asked
        attempt += 1
        told(what, pause, attempt)
        await asyncio.sleep(pause)


def _backoff(policy: Policy, attempt: int) -> float:
    """Not the same for all that failed together."""
    return min(policy.backoff_s * 2.0 ** (attempt - 1), policy.max_wait_s) * random.uniform(0.5, 1.0)


def retry_after(answer: HttpAnswer) -> float | None:
    """Seconds that the target asks to be left alone; None if it does not say, or in no way that can be read."""
    said = answer.headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said[:9])
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
