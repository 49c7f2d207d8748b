"""Loaders for what workflows are made of: many fields of one operation, one statement. Nothing is remembered."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.dataloader import DataLoader

from persistence import drafts, projects, versions, workflows
from persistence.caller import Caller
from persistence.database import Database

KeyT = TypeVar("KeyT", bound=Hashable)
FoundT = TypeVar("FoundT")
Read = Callable[[AsyncConnection, Caller, Sequence[KeyT]], Awaitable[Mapping[KeyT, FoundT]]]


class WorkflowLoaders:
    """`load(key)` answers None for what does not exist or may not be seen."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database, self._caller = database, caller
        self.project: DataLoader[str, projects.Project | None] = self._loader(projects.get_many)
        self.workflow: DataLoader[str, workflows.Workflow | None] = self._loader(workflows.get_many)
        self.draft: DataLoader[str, drafts.Draft | None] = self._loader(drafts.get_many)
        self.version: DataLoader[str, versions.Version | None] = self._loader(versions.get_many)
        self.published: DataLoader[str, versions.Version | None] = self._loader(versions.published)
        self.by_content: DataLoader[tuple[str, str], versions.Version | None] = self._loader(versions.by_content)

    def _loader(self, read: Read[KeyT, FoundT]) -> DataLoader[KeyT, FoundT | None]:
        async def load(keys: list[KeyT]) -> list[FoundT | None]:
            async with self._database.connect() as connection:
                found = await read(connection, self._caller, list(dict.fromkeys(keys)))
            return [found.get(key) for key in keys]

        # cache=False: a WebSocket keeps its context for hours, and what was read then is not true now.
        return DataLoader(load_fn=load, cache=False)
