"""Which failures are a store's and pass, and which are the fault of what was asked of it. Said once, for everybody.

A statement that Postgres refuses for its content (SQLSTATE classes 22, 23, 54) is refused again however often it is sent.
Anything else, a connection limit, a deadlock, a failover, a full disk, may be different a moment later.
"""

import asyncpg
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

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

DATABASE_TROUBLE = (
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


def is_away(error: BaseException) -> bool:
    """Whether a store cannot be reached or cannot serve just now: worth another try."""
    if isinstance(error, DBAPIError):
        # SQLAlchemy has a name of its own for few of the driver's errors: a killed connection is a plain DBAPIError.
        return error.connection_invalidated or (error.orig is not None and is_away(error.driver_exception))
    return isinstance(error, _AWAY) and not isinstance(error, ValueError)


def is_content(error: Exception) -> bool:
    """Whether what was sent is at fault, so that sending it again is of no use."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in CONTENT
    # asyncpg's own DataError is an InterfaceError: a value that cannot even be encoded. Its InternalClientError is what a
    # connection says that dies in the middle of an operation.
    return isinstance(error, ValueError) or not isinstance(error, DATABASE_TROUBLE)
