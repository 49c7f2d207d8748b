"""Which failures are a store's and pass, and which are the fault of what was asked of it. Said once, for everybody; and how who
cannot do without an answer waits for a store to come back.

A statement that Postgres refuses for its content (SQLSTATE classes 22, 23, 54) is refused again however often it is sent.
Anything else, a connection limit, a deadlock, a failover, a full disk, may be different a moment later.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

log = structlog.get_logger(__name__)

T = TypeVar("T")
CONTENT = ("22", "23", "54")

_AWAY = (
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
"""Between two tries at a store that is away, the first one and the longest."""

START_S = 5.0
"""How long a process that starts waits for a Postgres that was there a moment ago. One that runs waits for ever.

As long as a restart of Postgres takes, and no longer: whoever starts it again may stop it as well, and counts its failures.
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
"""Whatever a background loop may meet in Postgres: it says so and looks again."""


def is_transient(error: BaseException) -> bool:
    """Whether a store cannot be reached or cannot serve just now: worth another try."""
    if isinstance(error, DBAPIError):
        # SQLAlchemy has a name of its own for few of the driver's errors: a killed connection is a plain DBAPIError.
        return error.connection_invalidated or (error.orig is not None and is_transient(error.driver_exception))
    return isinstance(error, _AWAY) and not isinstance(error, ValueError)


def is_content(error: Exception) -> bool:
    """Whether what was sent is at fault, so that sending it again is of no use."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in CONTENT
    # asyncpg's own DataError is an InterfaceError: a value that cannot even be encoded. Its InternalClientError is what a
    # connection says that dies in the middle of an operation.
    return isinstance(error, ValueError) or not isinstance(error, DATABASE_ERRORS)


def is_not_away(error: Exception) -> bool:
    """The opposite of `is_away`: whatever it is, it does not pass by itself."""
    return not is_transient(error)


async def retry_transient(
    ask: Callable[[], Awaitable[T]], event: str, *, is_final: Callable[[Exception], bool] = is_not_away, **about: object
) -> T:
    """What `ask` answers, asked again until then or until a failure that is final; the others are logged as `event`.

    Only for what may be done twice: a connection that is lost does not tell whether its statement landed.
    """
    pause, longest = PAUSES_S
    while True:
        try:
            return await ask()
        except Exception as error:
            if is_final(error):
                raise
            log.warning(event, **about, error=str(error) or type(error).__name__, retry_in_s=round(pause, 2))
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest)


class UnavailableAtStart(Exception):
    """What is away, why, and what to do, in one line."""


async def opened(opening: Callable[[], Awaitable[T]]) -> T:
    """What a process needs of Postgres as it starts. Raises UnavailableAtStart where that does not come back in time."""
    deadline = time.monotonic() + START_S
    try:
        return await retry_transient(
            opening, "start.waiting", is_final=lambda error: not is_transient(error) or time.monotonic() > deadline
        )
    except Exception as error:
        if not is_transient(error):
            raise
        cause = error.driver_exception if isinstance(error, DBAPIError) and error.orig is not None else error
        why = (str(cause) or type(cause).__name__).splitlines()[0].rstrip(".")
        raise UnavailableAtStart(
            f"Postgres went away in the middle of the start ({why}): start again once it is back"
        ) from error
