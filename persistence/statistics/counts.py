"""`Counts`: what is counted of ended runs in a period, as integers that can be added in any order.

Durations are counted in buckets whose limits grow by a constant factor, so that histograms of periods
can be added, and a percentile has a bounded relative error (DDSketch: Masson, Rim and Lee, VLDB 2019).
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

RELATIVE_ERROR = 0.02
"""How far a percentile may be from a measured duration, as a part of it."""
_GROWTH = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH = math.log(_GROWTH)
SHORTEST_MS = 0.01
"""All shorter durations are in the lowest bucket."""
MOST_CODES = 200
"""Different error codes of a period. The failures with further ones are counted as OTHER_CODES."""
OTHER_CODES = "OTHER"
NANO = 1_000_000_000
"""Costs are counted in billionths of a dollar, so that their sum does not depend on its order."""

DURATION, QUEUE, CODE, STATUS = "d:", "q:", "c:", "s:"
"""The prefixes of counters: buckets of durations and of times in the queue, error codes, statuses."""
INPUT_TOKENS, OUTPUT_TOKENS, COST = "tokens:in", "tokens:out", "cost"

Counts = Counter[str]


def bucket_of(ms: float) -> int:
    """Return the bucket of a duration in milliseconds: the number of growths from 1 ms."""
    return math.ceil(math.log(max(ms, SHORTEST_MS)) / _LOG_GROWTH)


def value_of(bucket: int) -> float:
    """Return the duration in milliseconds for which a bucket stands."""
    return 2 * _GROWTH**bucket / (_GROWTH + 1)


def counts_of_end(end: Mapping[str, Any]) -> dict[str, int]:
    """Return the counters of one ended run, a row of `run_ends`."""
    counts = {STATUS + end["status"]: 1}
    if end["code"] is not None and end["status"] == "FAILED":
        counts[CODE + end["code"]] = 1
    for prefix, ms in ((DURATION, end["duration_ms"]), (QUEUE, end["queue_ms"])):
        if ms is not None:
            counts[prefix + str(bucket_of(ms))] = 1
    for name, value in (
        (INPUT_TOKENS, end["input_tokens"]),
        (OUTPUT_TOKENS, end["output_tokens"]),
        (COST, end["cost"]),
    ):
        if value:
            counts[name] = value
    return counts


def add_node(to: Counts, status: str, ms: float | None) -> None:
    """Add one node of an ended run."""
    to[STATUS + status] += 1
    if ms is not None:
        to[DURATION + str(bucket_of(ms))] += 1


def add(to: Counts, counts: Mapping[str, int]) -> None:
    """Add counters."""
    if not to:
        to.update(counts)
        return
    stored_count = to.get  # A year by days has 100,000 counters.
    for key, count in counts.items():
        stored = stored_count(key)
        if stored is None:
            if key.startswith(CODE) and sum(1 for one in to if one.startswith(CODE)) >= MOST_CODES:
                key = CODE + OTHER_CODES
            stored = to[key]
        to[key] = stored + count


def histogram_of(counts: Mapping[str, int], prefix: str) -> list[tuple[int, int]]:
    """Return the buckets of a histogram with their counts, the shortest first."""
    start = len(prefix)
    return sorted([(int(key[start:]), count) for key, count in counts.items() if key[:start] == prefix])


def percentile(histogram: Sequence[tuple[int, int]], part: float) -> float | None:
    """Return the value below which a part of a histogram lies; None for an empty one.

    It is within RELATIVE_ERROR of the value with the rank ⌈part × count⌉.
    """
    rank = math.ceil(part * sum(count for _, count in histogram))
    for bucket, count in histogram:
        rank -= count
        if rank <= 0:
            return value_of(bucket)
    return None


def by_code(counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the error codes with their failures, the most frequent first."""
    codes = ((key.removeprefix(CODE), count) for key, count in counts.items() if key.startswith(CODE))
    yield from sorted(codes, key=lambda one: (-one[1], one[0]))
