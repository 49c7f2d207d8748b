"""Classifies errors of Postgres and Redis, and retries calls until a store is available again.

A statement that Postgres rejects for its content (SQLSTATE classes 22, 23 and 54) is rejected again
however often it is sent. Any other error, such as a connection limit, a deadlock, a failover or a
full disk, may pass a moment later.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from persistence.db.outage import Outage

T = TypeVar("T")
CONTENT_CLASSES = ("22", "23", "54")
"""SQLSTATE classes of data exceptions, integrity violations and exceeded limits."""

_TRANSIENT_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    PendingRollbackError,
    ResourceClosedError,
    PoolTimeoutError,
    RedisError,
)

PAUSES_S = (0.05, 2.0)
"""The first and the longest pause between two attempts, in seconds.

Each pause is twice the one before.
"""

START_S = 5.0
"""How long a starting process waits for a Postgres that was available a moment ago, in seconds.

As long as a restart of Postgres takes and no longer: the supervisor starts the process again, may
stop it as well, and counts its failures. A process that is already running waits without a limit.
"""

DATABASE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    DBAPIError,
    PendingRollbackError,
    ResourceClosedError,
    PoolTimeoutError,
)
"""Every error that Postgres may cause in a background loop: the loop logs it and tries again."""


def is_transient(error: BaseException) -> bool:
    """Whether a store cannot be reached or cannot serve now: another attempt may succeed."""
    if isinstance(error, DBAPIError):
        # SQLAlchemy has own names for few of the driver's errors: a killed connection is a plain
        # DBAPIError.
        return error.connection_invalidated or (error.orig is not None and is_transient(error.driver_exception))
    return isinstance(error, _TRANSIENT_ERRORS) and not isinstance(error, ValueError)


def is_disk_full(error: BaseException) -> bool:
    """Whether Postgres had no space left for a statement."""
    if isinstance(error, DBAPIError):
        return error.orig is not None and is_disk_full(error.driver_exception)
    return isinstance(error, asyncpg.DiskFullError)


def is_content(error: Exception) -> bool:
    """Whether the content of the statement caused the error: sending it again cannot succeed."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in CONTENT_CLASSES
    # asyncpg's own DataError, a value that cannot be encoded, is an InterfaceError and a
    # ValueError. Its InternalClientError comes from a connection that dies in the middle of an
    # operation.
    return isinstance(error, ValueError) or not isinstance(error, DATABASE_ERRORS)


def is_permanent(error: Exception) -> bool:
    """The opposite of `is_transient`: the error does not pass by itself."""
    return not is_transient(error)


async def retry_transient(
    call: Callable[[], Awaitable[T]],
    name: str,
    *,
    is_final: Callable[[Exception], bool] = is_permanent,
    **context: object,
) -> T:
    """Call until it succeeds, with exponential backoff.

    Only for calls that may run twice: after a lost connection it is unknown whether the statement
    was executed. The loop is written by hand, because it is around every commit of the journal:
    tenacity would create its state for each call, also for one that succeeds at once.

    Args:
        call: The statement.
        name: Prefix of the log events `<name>.away` and `<name>.back`; `context` becomes their fields.
        is_final: Whether an error ends the attempts.

    Raises:
        Exception: The first error that is final.
    """
    pause, longest = PAUSES_S
    outage: Outage | None = None
    while True:
        try:
            result = await call()
        except Exception as error:
            if is_final(error):
                if outage is not None and not is_transient(error):  # The store answers again.
                    outage.recovered()
                raise
            outage = outage or Outage(name, **context)
            outage.failed(error)
        else:
            if outage is not None:
                outage.recovered()
            return result
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest)


class UnavailableAtStart(Exception):
    """A store is unavailable while the process starts.

    The message, one line, says which, why and what to do.
    """


async def connect_at_start(call: Callable[[], Awaitable[T]]) -> T:
    """Make a call to Postgres that the process needs to start, for up to START_S seconds.

    Raises:
        UnavailableAtStart: Postgres did not become available in that time.
    """
    deadline = time.monotonic() + START_S
    try:
        return await retry_transient(
            call, "start", is_final=lambda error: not is_transient(error) or time.monotonic() > deadline
        )
    except Exception as error:
        if not is_transient(error):
            raise
        cause = error.driver_exception if isinstance(error, DBAPIError) and error.orig is not None else error
        why = (str(cause) or type(cause).__name__).splitlines()[0].rstrip(".")
        raise UnavailableAtStart(
            f"Postgres became unavailable during the start ({why}): start again once it is available"
        ) from error
