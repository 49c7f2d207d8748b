"""`Outage`: logs the begin and the end of a store's outage once each.

It serves loops that try many times a minute.
"""

import time

import structlog

log = structlog.get_logger(__name__)


class Outage:
    """The outage of one loop or call, in the log: `<name>.away`, then `<name>.back`.

    `context` becomes fields of both.
    """

    def __init__(self, name: str, **context: object) -> None:
        self._name, self._context = name, context
        self._since: float | None = None

    @property
    def is_active(self) -> bool:
        return self._since is not None

    def failed(self, error: BaseException) -> None:
        """Report a failed attempt. The first one of an outage is logged."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning(f"{self._name}.away", **self._context, error=str(error) or type(error).__name__)

    def recovered(self) -> None:
        """Report a successful attempt.

        The first one after an outage is logged with the outage's length in seconds.
        """
        if self._since is not None:
            log.info(f"{self._name}.back", **self._context, after_s=round(time.monotonic() - self._since, 1))
            self._since = None
