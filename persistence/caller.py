"""Who asks. Every query of this package takes a Caller and sees only the rows of its projects."""

from dataclasses import dataclass, field
from enum import StrEnum

ADMIN_SCOPES = frozenset({"read", "write", "run", "admin"})


class Role(StrEnum):
    """What a caller may do in one project; each role includes the ones before it."""

    VIEWER = "viewer"
    RUNNER = "runner"
    EDITOR = "editor"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Caller:
    """A subject with a role in each of its projects (project id → role). Locally: one caller, admin of `default`."""

    subject: str
    roles: dict[str, Role]
    scopes: frozenset[str] = field(default=ADMIN_SCOPES)
    is_agent: bool = False

    @property
    def projects(self) -> list[str]:
        return list(self.roles)

    def may(self, role: Role, project_id: str) -> bool:
        held = self.roles.get(project_id)
        return held is not None and held.includes(role)
