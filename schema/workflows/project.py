"""Projects as clients see them."""

from datetime import datetime

import strawberry

from persistence.workflows import projects
from schema.payload import Payload
from schema.relay import Node


@strawberry.type
class Project(Node):
    name: str
    created_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, projects.Project)


@strawberry.type
class Viewer:
    """Who asks."""

    subject: str
    projects: list[Project]
    scopes: list[str]


@strawberry.input
class CreateProjectInput:
    name: str


@strawberry.type
class ProjectPayload(Payload):
    project: Project | None = None
