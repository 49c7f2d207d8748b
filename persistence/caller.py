"""`Caller`: the authenticated subject of a request and its role in each project.

Every query of this package takes a `Caller` and returns only rows of the caller's projects.
"""

from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Caller:
    """A subject with its roles, by project id.

    A local installation has one caller, admin of project `default`.
    """

    subject: str
    roles: dict[str, Role]
    scopes: frozenset[str] = field(default=ADMIN_SCOPES)
    is_agent: bool = False

    @property
    def projects(self) -> list[str]:
        """The ids of the projects that the caller may see."""
        return list(self.roles)

    def may(self, role: Role, project_id: str) -> bool:
        """Whether the caller's role in the project includes `role`."""
        own = self.roles.get(project_id)
        return own is not None and own.includes(role)
