"""A wrong clock in one worker: every reading of the time of day is off by a constant.

The monotonic clocks stay right, as they do on a host whose clock was set wrongly. Only the readings
of this process change: the suite gives the worker the environment variable OFFSET_S, and the node
types of the suite call `install` when the worker loads them, before it claims a run.
"""

import os
import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import Any

OFFSET_S = "TREADLE_CHAOS_CLOCK_S"
"""The environment variable with the seconds by which the clock is ahead; negative: behind."""
OUR_PACKAGES = ("app.", "engine.", "persistence.", "worker.")
real_time, _real_time_ns = time.time, time.time_ns
"""The right clock."""


class _IsDatetime(type):
    """Accepts real datetimes as instances, because the wrong clock returns only those."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


def install() -> None:
    """Make the clock of this process wrong, if the suite sets an offset."""
    offset_s = float(os.environ.get(OFFSET_S, "0"))
    if not offset_s:
        return
    setattr(time, "time", lambda: real_time() + offset_s)  # noqa: B010 (a module has no such type)
    setattr(time, "time_ns", lambda: _real_time_ns() + int(offset_s * 1e9))  # noqa: B010
    wrong = _wrong_datetime(timedelta(seconds=offset_s))
    for name, module in list(sys.modules.items()):
        if name.startswith(OUR_PACKAGES) and name != __name__ and vars(module).get("datetime") is datetime:
            setattr(module, "datetime", wrong)  # noqa: B010


def _wrong_datetime(offset: timedelta) -> type:
    """Make the class that our modules use as `datetime`."""

    class WrongDatetime(datetime, metaclass=_IsDatetime):
        def __new__(cls, *values: Any, **named: Any) -> Any:
            return datetime(*values, **named)

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + offset

    return WrongDatetime
