"""The second barrier around the rows of a project: row-level security of Postgres (decision 40).

The reads of a caller run as a role that sees only rows of the projects that its transaction names. The
role and the projects are set for one transaction, so a pooled connection keeps nothing of a caller.
Migration 0029 has the policies, which hold for every role whose name begins with READER. A database
whose user may create no role has them as well, and `inspect` says what is missing.
"""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.db.advisory_locks import AdvisoryLock
from persistence.db.tables import metadata

QueryT = TypeVar("QueryT", bound=Executable)
READER = "treadle_reader"
"""The beginning of the name of the role of reads. The name of the user of the database follows.

Roles belong to all databases of a server. If several users shared one role, each could use it to read
the databases of the others.
"""
WITHOUT_PROJECT = frozenset({"worker_heartbeats", "workers"})
"""Tables that the role sees completely."""
HIDDEN = frozenset({"browser_sessions"})
"""Tables that the role may not read: they are for the sign-in of a caller."""
END = "ROLLBACK"
"""Ends a transaction of a caller, which has only read."""
_PROJECT_ID = re.compile(r"[0-9A-Za-z_]{1,64}")
_BY_INDEX = "treadle_by_index"
_ROLE = "treadle_reader_role"
_SETS_ROLE_SINCE = 16
"""The first version of Postgres that knows members of a role who may not take it on."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """Whether the barrier of a database is active.

    Args:
        role: The name of the role of reads, quoted for SQL.
        user: The name of the user of the database, quoted for SQL.
        problem: Why it is not active, or None.
    """

    role: str
    user: str
    problem: str | None

    @property
    def remedy(self) -> str:
        """How an administrator of the Postgres makes it active."""
        return (
            f"as an administrator of the Postgres, `CREATE ROLE {self.role} NOLOGIN` if it does not exist and "
            f"`GRANT {self.role} TO {self.user}`; then `treadle migrate`, and restart the servers"
        )


def begin(role: str, projects: Sequence[str], *, is_snapshot: bool = False) -> str:
    """Return the statements that begin a transaction for a caller, in one round trip.

    Args:
        role: `Barrier.role`.
        projects: The ids of the projects that the caller may see.
        is_snapshot: Whether all statements of the transaction see the same state.

    Raises:
        ValueError: A text is no id, so it could change the statement.
    """
    if bad := [one for one in projects if not _PROJECT_ID.fullmatch(one)]:
        raise ValueError(f"{bad[0]!r} is not the id of a project")
    level = "REPEATABLE READ" if is_snapshot else "READ COMMITTED"
    return (
        f"BEGIN ISOLATION LEVEL {level} READ ONLY; SET LOCAL ROLE {role}; "
        f"SET LOCAL treadle.projects = '{','.join(projects)}'"
    )


async def put_behind(connection: AsyncConnection, role: str) -> None:
    """Record that a transaction of a caller has begun, with the role of reads."""
    await connection.execution_options(**{_ROLE: role})


def _role_of(connection: AsyncConnection) -> str | None:
    if connection.sync_connection is None:
        return None
    role: str | None = connection.sync_connection.get_execution_options().get(_ROLE)
    return role


def is_behind(connection: AsyncConnection) -> bool:
    """Whether the statements of a connection are behind the barrier."""
    return _role_of(connection) is not None


def by_index(query: QueryT) -> QueryT:
    """Mark a query of ids or counts that needs an index which no policy lets it use."""
    marked: QueryT = query.execution_options(**{_BY_INDEX: True})
    return marked


def needs_index(query: Executable) -> bool:
    """Whether `by_index` has marked a query."""
    return bool(query.get_execution_options().get(_BY_INDEX))


@asynccontextmanager
async def before(connection: AsyncConnection) -> AsyncIterator[None]:
    """Execute the statements of the block in front of the barrier, in the same transaction.

    Before a policy, Postgres calls no function that could reveal a row, such as `@>` of arrays, `->>`
    of JSON and `LIKE`. So no index on them would be used. Only ids and counts are read here, with
    the condition of the caller; the rows are then read behind the barrier.
    """
    role = _role_of(connection)
    if role is None:
        yield
        return
    await connection.exec_driver_sql("SET LOCAL role TO DEFAULT")
    yield  # After an error the transaction is rolled back, and the role with it.
    await connection.exec_driver_sql(f"SET LOCAL ROLE {role}")


async def install(url: str) -> None:
    """Create the role if the user of the database may, and let it read. Nothing that exists is repeated.

    Called after migrations, because these add tables, and after the restore of a backup, which has no
    privileges. Several processes may do it at once, in one database and in several.
    """
    connection = await asyncpg.connect(url, timeout=60)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", int(AdvisoryLock.MIGRATIONS))
            names = await _names_in(connection)
            if not names["exists"]:
                await _try(connection, f"CREATE ROLE {names['role']} NOLOGIN")
            if await connection.fetchval(_EXISTS, names["name"]):
                await _join(connection, names)
                await _grant(connection, names)
    finally:
        await connection.close(timeout=60)


async def _names_in(connection: Any) -> dict[str, Any]:
    return dict(await connection.fetchrow(_NAMES))


async def _try(connection: asyncpg.Connection, statement: str) -> None:
    """Execute a statement that the user may lack the privilege for, or that another process has executed."""
    with suppress(*_REFUSED):
        async with connection.transaction():
            await connection.execute(statement)


async def _join(connection: asyncpg.Connection, names: dict[str, Any]) -> None:
    privilege = "SET" if connection.get_server_version().major >= _SETS_ROLE_SINCE else "MEMBER"
    if not await connection.fetchval("SELECT pg_has_role($1::name, $2)", names["name"], privilege):
        await _try(connection, f"GRANT {names['role']} TO {names['user']}")


async def _grant(connection: asyncpg.Connection, names: dict[str, Any]) -> None:
    await _try(connection, f"GRANT USAGE ON SCHEMA {names['schema']} TO {names['role']}")
    for row in await connection.fetch(_UNREADABLE, names["name"], sorted(metadata.tables.keys() - HIDDEN)):
        await connection.execute(f"GRANT SELECT ON {row['name']} TO {names['role']}")


async def inspect(pool: asyncpg.Pool) -> Barrier:
    """Return whether the barrier is active for the user of a database."""
    async with pool.acquire() as connection:
        names = await _names_in(connection)
        problem = await _find_problem(connection, names)
    return Barrier(names["role"], names["user"], problem)


async def _find_problem(connection: Any, names: dict[str, Any]) -> str | None:
    if not names["exists"]:
        return f"the role {names['role']} does not exist"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"SET LOCAL ROLE {names['role']}")
        rows = await connection.fetch(_STATE, list(metadata.tables))
    except asyncpg.InsufficientPrivilegeError:
        return f"the user {names['user']} of the database is no member of the role {names['role']}"
    finally:
        await transaction.rollback()
    return _table_problem(names["role"], {row["name"]: row for row in rows})


def _table_problem(role: str, states: dict[str, asyncpg.Record]) -> str | None:
    for name in sorted(metadata.tables.keys() - HIDDEN):
        state = states.get(name)
        if state is None or not state["is_readable"]:
            return f"the role {role} may not read {name}"
        if not (state["is_active"] or name in WITHOUT_PROJECT):
            return f"the policies of {name} have no effect for the role {role}"
    return None


_REFUSED: Any = (asyncpg.InsufficientPrivilegeError, asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError)
# Postgres cuts names at 63 bytes.
_NAMES = f"""
SELECT reader.name, quote_ident(reader.name) AS role, quote_ident(current_user) AS user,
    quote_ident(current_schema()) AS schema, EXISTS (SELECT FROM pg_roles WHERE rolname = reader.name)
FROM (SELECT '{READER}_' || CASE WHEN octet_length(current_user::text) > {63 - len(READER) - 1}
    THEN md5(current_user::text) ELSE current_user::text END AS name) reader
"""
_EXISTS = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)"
# Partitions are read through their table.
_UNREADABLE = """
SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = current_schema()::regnamespace
    AND relkind IN ('r', 'p') AND relname = ANY($2)
    AND pg_has_role(relowner, 'USAGE') AND NOT has_table_privilege($1::name, oid, 'SELECT')
ORDER BY relname
"""
_STATE = """
SELECT relname AS name, row_security_active(oid) AS is_active, has_table_privilege(oid, 'SELECT') AS is_readable
FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND relname = ANY($1)
"""
