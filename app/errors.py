"""Why Treadle cannot start, or cannot go on: each says what, where (never with a password) and what to do, in one line."""


class CannotStartError(Exception):
    """All of them."""


class EmbeddedError(CannotStartError):
    """An embedded server of ours cannot be started, or does not come back."""


class StoreError(CannotStartError):
    """A Postgres or a Redis cannot be used."""


class UnavailableError(StoreError):
    """It is not there now; nothing says that the address is wrong."""
