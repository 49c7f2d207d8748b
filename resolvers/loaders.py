"""What many fields of one operation ask for is read in one statement. Nothing is remembered: a socket lives long.

Every loader sees what its caller may see, because persistence does.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.dataloader import DataLoader

from engine.events import JSON, NodeState
from persistence import history, kin, nodes, runs, waits
from persistence.caller import Caller
from persistence.database import Database
from persistence.history import Checkpoint
from persistence.kin import Ask
from persistence.nodes import NodeName, Values
from persistence.paging import Page
from persistence.runs import Run
from persistence.waits import Wait

KeyT = TypeVar("KeyT", bound=Hashable)
FoundT = TypeVar("FoundT")
Place = tuple[str, int]
"""(run id, seq)"""


class Loaders:
    """One for each context. `load(key)` answers None for what does not exist or may not be seen."""

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database, self._caller = database, caller
        self.run: DataLoader[str, Run | None] = self._loader(self._scoped(runs.get_many))
        self.node_names: DataLoader[str, tuple[NodeName, ...] | None] = self._loader(self._scoped(nodes.names))
        self.node_states: DataLoader[str, list[NodeState] | None] = self._loader(self._scoped(nodes.states))
        self.node_states_at: DataLoader[Place, list[NodeState] | None] = self._loader(self._scoped(nodes.states_at))
        self.outputs_at: DataLoader[Place, dict[str, JSON] | None] = self._loader(self._scoped(nodes.all_outputs_at))
        self.values: DataLoader[Place, Values | None] = self._loader(self._scoped(nodes.values))
        self.checkpoint: DataLoader[str, Checkpoint | None] = self._loader(self._scoped(history.checkpoints_by_id))
        self.has_checkpoint: DataLoader[str, bool | None] = self._loader(self._scoped(history.with_checkpoints))
        self.checkpoints: DataLoader[Ask, Page[Checkpoint] | None] = self._loader(self._scoped(kin.saved))
        self.derived: DataLoader[Ask, Page[Run] | None] = self._loader(self._scoped(kin.derived))
        self.forks: DataLoader[Ask, Page[Run] | None] = self._loader(self._scoped(kin.forks))
        self.waits: DataLoader[str, list[Wait] | None] = self._loader(self._scoped(waits.of_runs))
        self.median_duration: DataLoader[str, timedelta | None] = self._loader(runs.median_durations)

    def _scoped(
        self, read: Callable[[AsyncConnection, Caller, Sequence[KeyT]], Awaitable[Mapping[KeyT, FoundT]]]
    ) -> Callable[[AsyncConnection, Sequence[KeyT]], Awaitable[Mapping[KeyT, FoundT]]]:
        return lambda connection, keys: read(connection, self._caller, keys)

    def _loader(
        self, read: Callable[[AsyncConnection, Sequence[KeyT]], Awaitable[Mapping[KeyT, FoundT]]]
    ) -> DataLoader[KeyT, FoundT | None]:
        connect: Callable[[], AbstractAsyncContextManager[AsyncConnection]] = self._database.connect

        async def load(keys: list[KeyT]) -> list[FoundT | None]:
            async with connect() as connection:
                found = await read(connection, list(dict.fromkeys(keys)))
            return [found.get(key) for key in keys]

        return DataLoader(load_fn=load, cache=False)
