"""Projects as clients see them."""

from datetime import datetime

import strawberry

from engine.release import VERSION
from persistence.workflows.projects import Project
from schema.payload import KeyedInput, Payload
from schema.relay import Node


@strawberry.type(name="Project")
class ProjectType(Node):
    name: str
    created_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, Project)


@strawberry.type
class ServerInfo:
    """The server that answers this request."""

    version: str = strawberry.field(description="The release of Treadle, such as 1.4.0.")


@strawberry.type
class Viewer:
    """The caller."""

    subject: str
    projects: list[ProjectType]
    scopes: list[str]

    @strawberry.field(description="The server that answers this request.")
    @staticmethod
    def server() -> ServerInfo:
        return ServerInfo(version=VERSION)


@strawberry.input
class CreateProjectInput(KeyedInput):
    name: str


@strawberry.type
class ProjectPayload(Payload):
    project: ProjectType | None = None
