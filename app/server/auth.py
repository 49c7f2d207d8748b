"""Who a request comes from. Locally everybody is one caller, admin of every project; the server binds loopback alone.

`Auth` is the room for sign-in by token: another class with the same method, chosen in asgi.py by settings.
"""

from collections.abc import Mapping
from typing import Protocol

from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.workflows import projects


class Auth(Protocol):
    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Raises persistence.problems.Forbidden for who may not come in."""
        ...


class LocalAuth:
    """One caller named `local`. Projects are read anew each time, so a new one is theirs at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        return Caller("local", dict.fromkeys(await projects.all_ids(self._database.pool), Role.ADMIN))
