"""The clock by which a worker measures the age of its leases."""

import time


def clock() -> float:
    """Return a time in seconds that also counts while the machine is suspended.

    Leases expire during a suspension. Systems without such a clock (CLOCK_BOOTTIME) use the
    monotonic one.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
