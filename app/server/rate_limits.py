"""Rate limits of callers and of addresses: token buckets in Redis, which all servers share.

A bucket is filled at the configured rate, up to the points of one minute. An operation needs a bucket
that is not empty, and takes its price out of it, at most down to the points of one minute below zero.
If Redis cannot be reached, operations are not limited, and the log says so. A crash loses nothing:
buckets fill by themselves.
"""

import asyncio
from math import ceil
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from persistence.caller import Caller
from persistence.db.outage import Outage
from persistence.problems import Limit

WAIT_S = 0.25
"""Seconds that Redis has to answer."""
MINUTE_S = 60
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local levels, wait = {}, 0
for i, key in ipairs(KEYS) do
  local rate = tonumber(ARGV[i + 1])
  local bucket = redis.call('GET', key)
  local level = rate
  if bucket then
    local at, left = string.match(bucket, '^(%S+) (%S+)$')
    level = math.min(rate, tonumber(left) + (now - tonumber(at)) * rate / 60)
  end
  levels[i] = level
  if level < 1 then wait = math.max(wait, (1 - level) * 60 / rate) end
end
if wait > 0 then return tostring(wait) end
for i, key in ipairs(KEYS) do
  local rate = tonumber(ARGV[i + 1])
  local level = math.max(levels[i] - tonumber(ARGV[1]), -rate)
  redis.call('SETEX', key, 180, string.format('%.6f %.3f', now, level))
end
return '0'
"""
"""Takes points from all buckets, or from none. Returns the seconds to wait, 0 if they were taken."""


class TooManyRequests(Limit):
    """A caller or an address has used up its points. The same operation succeeds later."""

    title, status = "Too many requests", 429

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            f"The rate limit of this caller or address is reached: try again in {retry_after_s} s, or send operations "
            "that cost less."
        )
        self.retry_after_s = retry_after_s


class RateLimits:
    """The rate limits of one deployment, in points per minute; None for no limit."""

    def __init__(self, redis: Redis, prefix: str, per_caller: int | None, per_address: int | None) -> None:
        """`prefix` distinguishes deployments that share a Redis."""
        self._redis, self._prefix = redis, prefix
        self._per_caller, self._per_address = per_caller, per_address
        self._outage = Outage("rate_limits.redis")

    async def take(self, caller: Caller, points: int) -> None:
        """Take the price of an operation. Raises TooManyRequests."""
        buckets = self._buckets(caller)
        if not buckets:
            return
        try:
            async with asyncio.timeout(WAIT_S):
                arguments = [str(max(1, points)), *map(str, buckets.values())]
                wait_s = float(await cast("Any", self._redis.eval(_TAKE, len(buckets), *buckets, *arguments)))
        except (RedisError, OSError, TimeoutError) as error:
            self._outage.failed(error)
            return
        self._outage.recovered()
        if wait_s > 0:
            raise TooManyRequests(ceil(wait_s))

    def _buckets(self, caller: Caller) -> dict[str, int]:
        """Return the rates by key. Callers that are the same person on two devices share one."""
        buckets: dict[str, int] = {}
        if self._per_caller is not None:
            buckets[f"rate:{self._prefix}:caller:{caller.subject}"] = self._per_caller
        if self._per_address is not None and caller.address is not None:
            buckets[f"rate:{self._prefix}:address:{caller.address}"] = self._per_address
        return buckets
