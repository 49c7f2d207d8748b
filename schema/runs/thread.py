"""Threads of conversations and their messages, as clients see them."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from persistence.db.pagination import Page, PageArguments
from persistence.runs.run import Run
from persistence.threads.thread import StoredMessage, StoredThread
from persistence.workflows.projects import Project
from resolvers.runs import threads
from schema import enums as enums
from schema.info import Info
from schema.payload import KeyedInput, keyed_mutation, payload
from schema.relay import Connection, Node
from schema.workflows.project import ProjectType
from schema.workflows.workflow import DeletePayload

if TYPE_CHECKING:
    from schema.runs.run import RunType

MESSAGES = 25


@strawberry.type(name="ThreadMessage", description="A message of a conversation. Secrets in it are masked.")
class ThreadMessageType:
    number: int = strawberry.field(description="Its place in the thread, from 1. Removed messages leave gaps.")
    role: str = strawberry.field(description="`user` or `assistant`.")
    content: str = strawberry.field(description="The text.")
    tokens: int = strawberry.field(description="An estimate, by which the window of a node is read.")
    created_at: datetime = strawberry.field(description="When it was stored.")
    node_id: strawberry.ID = strawberry.field(description="The node that has stored it.")
    visit: int = strawberry.field(description="The visit of that node, from 1.")

    @strawberry.field(
        graphql_type=Annotated["RunType", strawberry.lazy("schema.runs.run")] | None,
        description="The run that has stored it. Null: it is deleted.",
    )
    @staticmethod
    async def run(message: strawberry.Parent[StoredMessage], info: Info) -> Run | None:
        return await info.context.loaders.run.load(message.run_id)


@strawberry.type(
    name="Thread",
    description="A conversation of several runs with the same `options.thread` in one project. It begins with its first "
    "message.",
)
class ThreadType(Node):
    key: str = strawberry.field(description="The `key` of `options.thread`.")
    created_at: datetime = strawberry.field(description="When its first message was stored.")
    updated_at: datetime = strawberry.field(description="When its latest message was stored.")

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, StoredThread)

    @strawberry.field(graphql_type=ProjectType, description="The project of the thread.")
    @staticmethod
    async def project(thread: strawberry.Parent[StoredThread], info: Info) -> Project | None:
        return await info.context.loaders.project.load(thread.project_id)

    @strawberry.field(
        graphql_type=list[ThreadMessageType],
        description="The newest messages, newest first; with `before`, the newest ones with a smaller number.",
    )
    @staticmethod
    async def messages(
        thread: strawberry.Parent[StoredThread], info: Info, first: int = MESSAGES, before: int | None = None
    ) -> list[StoredMessage]:
        return await threads.messages_of(info.context, thread, first, before)


@strawberry.input
class DeleteThreadInput(KeyedInput):
    id: strawberry.ID = strawberry.field(description="The id of the thread (`thr_…`), not its key.")


@strawberry.type
class ThreadQueries:
    @strawberry.field(
        graphql_type=Connection[ThreadType],
        description="The threads of a project, newest first. Without `projectId`: of all your projects.",
    )
    @staticmethod
    async def threads(
        info: Info,
        project_id: strawberry.ID | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Page[StoredThread]:
        return await threads.thread_page(info.context, project_id, PageArguments(first, after, last, before))

    @strawberry.field(
        graphql_type=ThreadType | None, description="A thread by its key. Null: no message of it is stored."
    )
    @staticmethod
    async def thread(info: Info, key: str, project_id: strawberry.ID | None = None) -> StoredThread | None:
        return await threads.thread_by_key(info.context, project_id, key)


@strawberry.type
class ThreadMutations:
    @keyed_mutation
    @staticmethod
    async def delete_thread(info: Info, input: DeleteThreadInput) -> DeletePayload:
        """Deletes a thread with its messages. A run that is active may append further ones: cancel it before."""
        return payload(DeletePayload, deleted_id=await threads.delete_thread(info.context, input.id))
