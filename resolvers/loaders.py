"""What many fields of one operation ask for is read in one statement. Nothing is remembered: a socket lives long.

Every loader sees what its caller may see, because persistence does.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection
from strawberry.dataloader import DataLoader

from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events import history
from persistence.runs import listing, related, waits
from persistence.runs import node_states as nodes
from persistence.runs import run as runs
from persistence.workflows import drafts, projects, versions, workflows

KeyT = TypeVar("KeyT", bound=Hashable)
FoundT = TypeVar("FoundT")
Read = Callable[[AsyncConnection, Caller, Sequence[KeyT]], Awaitable[Mapping[KeyT, FoundT]]]
Place = tuple[str, int]
"""(run id, seq)"""


class _Loader(Generic[KeyT, FoundT]):
    """Makes the loader when it is first asked for: an operation needs a few of them, or none."""

    def __init__(self, read: Read[KeyT, FoundT]) -> None:
        self._read = read

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, loaders: "Loaders", _: type) -> DataLoader[KeyT, FoundT | None]:
        made: DataLoader[KeyT, FoundT | None] = DataLoader(load_fn=loaders.reading(self._read), cache=False)
        vars(loaders)[self._name] = made  # It is found there from now on.
        return made


class Loaders:
    """One for each context. `load(key)` answers None for what does not exist or may not be seen."""

    project = _Loader(projects.get_many)
    workflow = _Loader(workflows.get_many)
    draft = _Loader(drafts.get_many)
    version = _Loader(versions.get_many)
    published = _Loader(versions.published)
    by_content = _Loader(versions.by_content)
    by_number = _Loader(versions.by_number)
    versions = _Loader(versions.pages)
    run = _Loader(runs.get_many)
    runs = _Loader(listing.pages)
    median_duration = _Loader(listing.median_durations)
    node_names = _Loader(nodes.names)
    node_states = _Loader(nodes.states)
    node_states_at = _Loader(nodes.states_at)
    outputs_at = _Loader(nodes.all_outputs_at)
    values = _Loader(nodes.values)
    events = _Loader(history.event_pages)
    checkpoint = _Loader(history.checkpoints_by_id)
    has_checkpoint = _Loader(history.with_checkpoints)
    checkpoints = _Loader(related.saved)
    derived = _Loader(related.derived)
    forks = _Loader(related.forks)
    waits = _Loader(waits.of_runs)

    def __init__(self, database: Database, caller: Caller) -> None:
        self._database, self._caller = database, caller

    def reading(self, read: Read[KeyT, FoundT]) -> Callable[[list[KeyT]], Awaitable[list[FoundT | None]]]:
        """What reads many keys at once, for this caller."""

        async def load(keys: list[KeyT]) -> list[FoundT | None]:
            async with self._database.connect() as connection:
                found = await read(connection, self._caller, list(dict.fromkeys(keys)))
            return [found.get(key) for key in keys]

        return load
