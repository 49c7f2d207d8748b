"""What many fields of one operation ask for is read in one statement. Nothing is remembered: a socket lives long.

Every loader sees what its caller may see, because persistence does.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.dataloader import DataLoader

from engine.events import JSON, NodeState
from persistence import drafts, history, kin, nodes, projects, run_lists, runs, versions, waits, workflows
from persistence.caller import Caller
from persistence.database import Database
from persistence.history import Checkpoint, EventPage, EventsAsked
from persistence.kin import Ask
from persistence.nodes import NodeName, Values
from persistence.paging import Page
from persistence.run_lists import RunsAsked
from persistence.runs import Run
from persistence.versions import Version, VersionsAsked
from persistence.waits import Wait

KeyT = TypeVar("KeyT", bound=Hashable)
FoundT = TypeVar("FoundT")
Read = Callable[[AsyncConnection, Caller, Sequence[KeyT]], Awaitable[Mapping[KeyT, FoundT]]]
Place = tuple[str, int]
"""(run id, seq)"""


class Loaders:
    """One for each context. `load(key)` answers None for what does not exist or may not be seen."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database, self._caller = database, caller
        self.project: DataLoader[str, projects.Project | None] = self._loader(projects.get_many)
        self.workflow: DataLoader[str, workflows.Workflow | None] = self._loader(workflows.get_many)
        self.draft: DataLoader[str, drafts.Draft | None] = self._loader(drafts.get_many)
        self.version: DataLoader[str, Version | None] = self._loader(versions.get_many)
        self.published: DataLoader[str, Version | None] = self._loader(versions.published)
        self.by_content: DataLoader[tuple[str, str], Version | None] = self._loader(versions.by_content)
        self.by_number: DataLoader[tuple[str, int], Version | None] = self._loader(versions.by_number)
        self.versions: DataLoader[VersionsAsked, Page[Version] | None] = self._loader(versions.pages)
        self.run: DataLoader[str, Run | None] = self._loader(runs.get_many)
        self.runs: DataLoader[RunsAsked, Page[Run] | None] = self._loader(run_lists.pages)
        self.median_duration: DataLoader[str, timedelta | None] = self._loader(run_lists.median_durations)
        self.node_names: DataLoader[str, tuple[NodeName, ...] | None] = self._loader(nodes.names)
        self.node_states: DataLoader[str, list[NodeState] | None] = self._loader(nodes.states)
        self.node_states_at: DataLoader[Place, list[NodeState] | None] = self._loader(nodes.states_at)
        self.outputs_at: DataLoader[Place, dict[str, JSON] | None] = self._loader(nodes.all_outputs_at)
        self.values: DataLoader[Place, Values | None] = self._loader(nodes.values)
        self.events: DataLoader[EventsAsked, EventPage | None] = self._loader(history.event_pages)
        self.checkpoint: DataLoader[str, Checkpoint | None] = self._loader(history.checkpoints_by_id)
        self.has_checkpoint: DataLoader[str, bool | None] = self._loader(history.with_checkpoints)
        self.checkpoints: DataLoader[Ask, Page[Checkpoint] | None] = self._loader(kin.saved)
        self.derived: DataLoader[Ask, Page[Run] | None] = self._loader(kin.derived)
        self.forks: DataLoader[Ask, Page[Run] | None] = self._loader(kin.forks)
        self.waits: DataLoader[str, list[Wait] | None] = self._loader(waits.of_runs)

    def _loader(self, read: Read[KeyT, FoundT]) -> DataLoader[KeyT, FoundT | None]:
        async def load(keys: list[KeyT]) -> list[FoundT | None]:
            async with self._database.connect() as connection:
                found = await read(connection, self._caller, list(dict.fromkeys(keys)))
            return [found.get(key) for key in keys]

        return DataLoader(load_fn=load, cache=False)
