"""The headers of a message signed by Standard Webhooks 1.0.0, and the times of its attempts. Pure."""

import base64
import hmac
import random
from datetime import timedelta

from engine.release import VERSION
from engine.triggers.webhook import standard_key

PAUSES_S = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 21_600, 36_000)
"""The pauses after failed attempts, in seconds: eleven attempts in about 24 hours."""
JITTER = 0.1
"""The part of a pause by which it is longer at most, so that many messages do not come at once."""
MAX_RETRY_AFTER_S = 24 * 3600
"""The longest pause that an endpoint may demand by `Retry-After`, in seconds."""


def signed_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message.

    Args:
        secret: The key, which may begin with `whsec_` and is base64 then. Several keys, separated by
            white space, make several signatures, so that a receiver can change its key.
        message_id: What identifies the message: repeats have the same.
        timestamp: The time of the attempt, in Unix seconds.
        body: The body of the message.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.new(standard_key(key), signed, "sha256").digest() for key in secret.split()]
    return {
        "content-type": "application/json",
        "user-agent": f"Treadle/{VERSION}",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }


def next_pause(failures: int, retry_after_s: float | None = None) -> timedelta | None:
    """Return the pause after a number of failed attempts, from 1; None if there is no further attempt.

    Args:
        failures: The failed attempts of this series.
        retry_after_s: The pause that the endpoint has demanded.
    """
    if failures > len(PAUSES_S):
        return None
    pause = PAUSES_S[failures - 1] * random.uniform(1, 1 + JITTER)
    return timedelta(seconds=max(pause, min(retry_after_s or 0, MAX_RETRY_AFTER_S)))
