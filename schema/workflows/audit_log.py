"""The audit log as admins see it."""

from datetime import datetime

import strawberry

from persistence.audit_log import AuditEntry, AuditFilter
from persistence.db.pagination import Page, PageArguments
from resolvers import audit_log
from schema.info import Info
from schema.relay import Connection, Node
from schema.scalars import JSON


@strawberry.type(
    name="AuditEntry",
    description="A change that a caller has made. It is written in the transaction of the change, and never changes. "
    "Admins of the project see it.",
)
class AuditEntryType(Node):
    at: datetime = strawberry.field(description="When it was made.")
    subject: str = strawberry.field(
        description="Who made it: `local`, the `sub` of a token, the id of an API key, or `treadle key`."
    )
    action: str = strawberry.field(description="The name of the mutation, such as `updateTrigger`.")
    resource_id: strawberry.ID | None = strawberry.field(description="The object that was changed. It may be deleted.")
    address: str | None = strawberry.field(description="The IP address of the client. Null for a command.")
    before: JSON | None = strawberry.field(
        description="What the change replaced; null for a new object. A value of more than 4 KiB is an object with "
        "its `bytes` and `sha256`. Values of secrets, tokens, inputs and answers are left out."
    )
    after: JSON | None = strawberry.field(description="What it is since then, as in `before`; null if it was deleted.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, AuditEntry)


@strawberry.input(name="AuditFilter", description="Selects entries that match all of its fields.")
class AuditFilterInput:
    subject: str | None = strawberry.field(default=None, description="Changes of this caller. Default: of all.")
    action: list[str] | None = strawberry.field(default=None, description="One of these mutations. Default: all.")
    resource_id: strawberry.ID | None = strawberry.field(
        default=None, description="Changes of this object. Default: of all."
    )
    created_after: datetime | None = strawberry.field(
        default=None, description="Changes at this time or later. Default: from the beginning."
    )
    created_before: datetime | None = strawberry.field(
        default=None, description="Changes before this time. Default: until now."
    )


@strawberry.type
class AuditQueries:
    @strawberry.field(
        graphql_type=Connection[AuditEntryType],
        description="Who changed what, newest first. Without `projectId`: of all projects that you are an admin of.",
    )
    @staticmethod
    async def audit_log(
        info: Info,
        project_id: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: AuditFilterInput | None = None,
    ) -> Page[AuditEntry]:
        where = AuditFilter() if filter is None else AuditFilter(**vars(filter))
        return await audit_log.entry_page(info.context, project_id, PageArguments(first, after, last, before), where)
