"""Says once that something is away and once that it is back: loops try many times a minute, and logs are for people."""

import time

import structlog

log = structlog.get_logger(__name__)


class Outage:
    """One loop's view of what it needs. `name` is the event's: `<name>.away`, then `<name>.back`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        return self._since is not None

    def met(self, error: BaseException) -> None:
        if self._since is None:
            self._since = time.monotonic()
            log.warning(f"{self._name}.away", error=str(error) or type(error).__name__)

    def over(self) -> None:
        if self._since is not None:
            log.info(f"{self._name}.back", after_s=round(time.monotonic() - self._since, 1))
            self._since = None
