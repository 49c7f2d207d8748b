"""`Caller`: the authenticated subject of a request and its role in each project.

Every query of this package takes a `Caller` and returns only rows of the caller's projects.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

ADMIN_SCOPES = frozenset({"read", "write", "run", "admin"})


class Role(StrEnum):
    """The permissions of a caller in one project. Each role includes the roles before it."""

    VIEWER = "viewer"
    RUNNER = "runner"
    EDITOR = "editor"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


SCOPES = {
    Role.VIEWER: frozenset({"read"}),
    Role.RUNNER: frozenset({"read", "run"}),
    Role.EDITOR: frozenset({"read", "run", "write"}),
    Role.ADMIN: ADMIN_SCOPES,
}
"""The scopes that each role has in its project. Tools require scopes."""


class CallerKind(StrEnum):
    """How a caller has signed in."""

    LOCAL = "local"
    """Not at all: the server has no sign-in and accepts only local connections."""
    UNKNOWN = "unknown"
    """Not yet: a WebSocket before its connection_init, which can do nothing."""
    JWT = "jwt"
    KEY = "key"
    """With an API key of a project."""
    SESSION = "session"
    """With the session cookie of a browser."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A subject with its roles, by project id.

    A server without sign-in has one caller, admin of every project.

    Args:
        subject: Who it is: `local`, the `sub` of a token, or the id of an API key.
        roles: The role in each project, by project id.
        scopes: The scopes in every project; None for the scopes of the role in each project.
        is_agent: Whether a model acts, not a person.
        kind: How the caller has signed in.
        may_create_projects: Whether the caller is an admin of the whole installation.
        expires_at: When the token or the key ends; None if it does not.
        credential_id: The API key or browser session that the caller has signed in with; it can be revoked.
        address: The network address of the client, for the audit log.
    """

    subject: str
    roles: dict[str, Role]
    scopes: frozenset[str] | None = None
    is_agent: bool = False
    kind: CallerKind = CallerKind.LOCAL
    may_create_projects: bool = False
    expires_at: datetime | None = None
    credential_id: str | None = None
    address: str | None = None

    @property
    def projects(self) -> list[str]:
        """The ids of the projects that the caller may see."""
        return list(self.roles)

    def may(self, role: Role, project_id: str) -> bool:
        """Whether the caller's role in the project includes `role`."""
        own = self.roles.get(project_id)
        return own is not None and own.includes(role)

    def scopes_in(self, project_id: str) -> frozenset[str]:
        """Return the scopes of the caller in a project. Runs keep them for their tools."""
        if self.scopes is not None:
            return self.scopes
        role = self.roles.get(project_id)
        return frozenset() if role is None else SCOPES[role]

    @property
    def all_scopes(self) -> frozenset[str]:
        """Every scope that the caller has in at least one project."""
        return frozenset[str]().union(*(self.scopes_in(project_id) for project_id in self.projects))
