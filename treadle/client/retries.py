"""Decides after a failure whether an operation is sent again, and when.

An operation is repeated only if that is safe: it is repeatable, or the server has not executed it.
"""

import random
import time
from collections.abc import Callable

from treadle.client.errors import OperationError, ServerUnavailable, TreadleError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
OnRetry = Callable[[TreadleError, float], None]
"""Called before each pause with the error and the seconds of the pause."""


class Retries:
    """The failures of one operation since its last success.

    Args:
        limit_s: Seconds after the first failure in which another attempt is made.
        has_fresh_tokens: Whether the next attempt has a new token.
        is_repeatable: Whether the operation may be sent again if it may have been executed.
        on_retry: Called before each pause.
    """

    def __init__(
        self, limit_s: float, *, has_fresh_tokens: bool, is_repeatable: bool = True, on_retry: OnRetry | None = None
    ) -> None:
        self._limit_s, self._has_fresh_tokens, self._on_retry = limit_s, has_fresh_tokens, on_retry
        self._is_repeatable = is_repeatable
        self._failures = self._refused_tokens = 0
        self._first_at = 0.0

    def succeeded(self) -> None:
        """Forget all failures."""
        self._failures = self._refused_tokens = 0

    def pause_after(self, error: TreadleError) -> float:
        """Return the seconds until the next attempt. Raises the error if there is none."""
        now = time.monotonic()
        if self._failures == 0:
            self._first_at = now
        self._failures += 1
        pause_s = self._pause_s(error)
        if not self._may_repeat(error) or now + pause_s - self._first_at > self._limit_s:
            raise error
        if self._on_retry is not None:
            self._on_retry(error, pause_s)
        return pause_s

    def _may_repeat(self, error: TreadleError) -> bool:
        if isinstance(error, OperationError) and error.code == "UNAUTHENTICATED":
            self._refused_tokens += 1
            return self._has_fresh_tokens and self._refused_tokens == 1
        if isinstance(error, OperationError | ServerUnavailable) and error.is_transient:
            return self._is_repeatable or not error.may_be_executed
        return False

    def _pause_s(self, error: TreadleError) -> float:
        """Return an exponential pause with jitter, or the time that the server asks for."""
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 20))
        pause_s = random.uniform(longest / 2, longest)
        asked_s = error.retry_after_s if isinstance(error, OperationError | ServerUnavailable) else None
        return max(pause_s, asked_s or 0.0)
