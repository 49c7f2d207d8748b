"""The clock by which a worker watches its leases."""

import time


def clock() -> float:
    """Seconds that pass while the machine sleeps, too, where the system has such a clock: leases run out meanwhile."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
