"""The clock by which a worker measures the age of its leases."""

import time


def clock() -> float:
    """Return seconds that also pass while the machine is suspended, because leases expire meanwhile.

    Systems without such a clock (CLOCK_BOOTTIME) use the monotonic one.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
