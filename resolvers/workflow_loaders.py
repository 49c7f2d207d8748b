"""Loaders for what workflows are made of: many fields of one operation, one statement. Nothing is remembered."""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.dataloader import DataLoader

from engine.states import VersionStatus
from persistence import drafts, projects, runs, versions, workflows
from persistence.caller import Caller
from persistence.database import Database
from persistence.paging import Page
from persistence.runs import Run, RunFilter
from persistence.versions import Version

KeyT = TypeVar("KeyT", bound=Hashable)
FoundT = TypeVar("FoundT")
Read = Callable[[AsyncConnection, Caller, Sequence[KeyT]], Awaitable[Mapping[KeyT, FoundT]]]


@dataclass(frozen=True, slots=True)
class VersionsAsked:
    """A page of one workflow's versions."""

    workflow_id: str
    first: int
    after: str | None = None
    status: VersionStatus | None = None


@dataclass(frozen=True, slots=True)
class RunsAsked:
    """A page of the runs of one workflow or version, of which `id` is the id."""

    of: Literal["workflow_id", "version_id"]
    id: str
    first: int
    after: str | None = None
    where: RunFilter = field(default_factory=RunFilter)


class WorkflowLoaders:
    """`load(key)` answers None for what does not exist or may not be seen."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database, self._caller = database, caller
        self.project: DataLoader[str, projects.Project | None] = self._loader(projects.get_many)
        self.workflow: DataLoader[str, workflows.Workflow | None] = self._loader(workflows.get_many)
        self.draft: DataLoader[str, drafts.Draft | None] = self._loader(drafts.get_many)
        self.version: DataLoader[str, Version | None] = self._loader(versions.get_many)
        self.published: DataLoader[str, Version | None] = self._loader(versions.published)
        self.by_content: DataLoader[tuple[str, str], Version | None] = self._loader(versions.by_content)
        self.by_number: DataLoader[tuple[str, int], Version | None] = self._loader(versions.by_number)
        self.versions: DataLoader[VersionsAsked, Page[Version] | None] = self._loader(_version_pages)
        self.runs: DataLoader[RunsAsked, Page[Run] | None] = self._loader(_run_pages)

    def _loader(self, read: Read[KeyT, FoundT]) -> DataLoader[KeyT, FoundT | None]:
        async def load(keys: list[KeyT]) -> list[FoundT | None]:
            async with self._database.connect() as connection:
                found = await read(connection, self._caller, list(dict.fromkeys(keys)))
            return [found.get(key) for key in keys]

        # cache=False: a WebSocket keeps its context for hours, and what was read then is not true now.
        return DataLoader(load_fn=load, cache=False)


async def _version_pages(
    connection: AsyncConnection, caller: Caller, keys: Sequence[VersionsAsked]
) -> Mapping[VersionsAsked, Page[Version]]:
    """A statement for all that differ in the workflow alone."""
    found: dict[VersionsAsked, Page[Version]] = {}
    for alike in dict.fromkeys(replace(key, workflow_id="") for key in keys):
        ids = [key.workflow_id for key in keys if replace(key, workflow_id="") == alike]
        pages = await versions.pages(connection, caller, ids, first=alike.first, after=alike.after, status=alike.status)
        found |= {replace(alike, workflow_id=id_): page for id_, page in pages.items()}
    return found


async def _run_pages(
    connection: AsyncConnection, caller: Caller, keys: Sequence[RunsAsked]
) -> Mapping[RunsAsked, Page[Run]]:
    """A statement for all that differ in the workflow, or the version, alone."""
    found: dict[RunsAsked, Page[Run]] = {}
    for alike in dict.fromkeys(replace(key, id="") for key in keys):
        ids = [key.id for key in keys if replace(key, id="") == alike]
        pages = await runs.pages(
            connection, caller, alike.of, ids, first=alike.first, after=alike.after, where=alike.where
        )
        found |= {replace(alike, id=id_): page for id_, page in pages.items()}
    return found
