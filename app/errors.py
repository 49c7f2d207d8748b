"""Errors that stop a Treadle process. Each message says what failed, where and what to do.

A message is one line and never contains a password.
"""


class CannotStartError(Exception):
    """A process cannot start. The base class of the errors in this module."""


class EmbeddedError(CannotStartError):
    """An embedded Postgres or Redis cannot be started, or does not come back after it died."""


class StoreError(CannotStartError):
    """A Postgres or a Redis cannot be used."""


class UnavailableError(StoreError):
    """A store does not respond at the moment. Nothing suggests that its address is wrong."""
