"""Authentication: identifies the caller of each request.

Today there is only `LocalAuth`: every request comes from one caller who is admin of every project,
which is safe because the server binds only loopback addresses. Authentication by token will be
another class with the same method, selected in `asgi` by a setting.
"""

from collections.abc import Mapping
from typing import Protocol

from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.workflows import projects


class Auth(Protocol):
    """Identifies the caller of a request."""

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return the caller. Raises persistence.problems.Forbidden if access is denied."""
        ...


class LocalAuth:
    """Identifies every request as the caller `local`.

    Projects are read for each request, so that the caller has access to a new project at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        return Caller("local", dict.fromkeys(await projects.all_ids(self._database.pool), Role.ADMIN))
