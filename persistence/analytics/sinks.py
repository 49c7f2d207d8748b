"""Loads the sinks of analytics events of packages (entry point `treadle.analytics`).

A package that cannot be loaded does not affect the others: it is left out and logged.
"""

import re
from importlib.metadata import EntryPoint, entry_points

import structlog

from engine.sdk.analytics import AnalyticsSink
from engine.sdk.plugins import load_error

log = structlog.get_logger(__name__)

GROUP = "treadle.analytics"
STREAM = "stream"
"""The name of the Redis stream as a receiver."""
_NAME = re.compile(r"[\w-]{1,50}")


def load_sinks() -> dict[str, AnalyticsSink]:
    """Create a sink of each entry point, by name."""
    sinks: dict[str, AnalyticsSink] = {}
    for entry in entry_points(group=GROUP):
        try:
            sink = _load(entry)
            if sink.name in sinks or sink.name == STREAM:
                raise ValueError(f"there is a sink {sink.name!r} already")
            sinks[sink.name] = sink
        except (Exception, SystemExit) as fault:  # third-party code may raise anything
            log.warning("analytics.sink_not_loaded", sink=entry.name, problem=load_error(entry, fault))
    return sinks


def _load(entry: EntryPoint) -> AnalyticsSink:
    loaded = entry.load()
    sink = loaded() if isinstance(loaded, type) else loaded
    if not isinstance(sink, AnalyticsSink):
        raise TypeError("is no AnalyticsSink")
    name = getattr(sink, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TypeError("`name` must have 1 to 50 letters, digits, `_` and `-`")
    return sink
