"""Turns: work of several projects waits in one queue, from which each project is served in turn.

A queue in the order of arrival lets one project delay all others by the length of its own work.
Here a project waits behind at most one piece of work of each other project (fair queuing, Nagle,
RFC 970). Inside a project its callers, such as its runs, take turns in the same way. Nothing is
stored: a crash loses the queue together with the tasks that wait for it.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from typing import Generic, NamedTuple, TypeVar

ItemT = TypeVar("ItemT")


class Owner(NamedTuple):
    """For whom work is done.

    `caller` is a run, or a user of the API. `limit` is the number of pieces of work that may wait for
    this owner; None for a run, which is bounded by its own parallelism.
    """

    project: str = ""
    caller: str = ""
    limit: int | None = None


NOBODY = Owner()
current_owner: ContextVar[Owner] = ContextVar("current_owner", default=NOBODY)


@contextmanager
def working_for(owner: Owner) -> Iterator[None]:
    """Set the owner of the work inside the `with` block, and inside the tasks that it creates."""
    token = current_owner.set(owner)
    try:
        yield
    finally:
        current_owner.reset(token)


class QueueFull(Exception):
    """As much work as the limit of its owner allows waits already."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} pieces of work of the same caller wait already")
        self.limit = limit


class FairQueue(Generic[ItemT]):
    """Items that wait for their turn.

    Args:
        share: Items of one project that may be taken at the same time, so that one project
            never takes everything.
    """

    def __init__(self, share: int) -> None:
        self._share = share
        self._waiting: OrderedDict[str, OrderedDict[str, deque[ItemT]]] = OrderedDict()
        self._taken: Counter[str] = Counter()

    def put(self, owner: Owner, item: ItemT) -> None:
        """Add an item. Raises QueueFull if the limit of the owner is reached."""
        callers = self._waiting.get(owner.project) or OrderedDict()
        items = callers.setdefault(owner.caller, deque())
        if owner.limit is not None and len(items) >= owner.limit:
            raise QueueFull(owner.limit)
        items.append(item)
        self._waiting[owner.project] = callers

    def put_back(self, owner: Owner, item: ItemT) -> None:
        """Add an item that was taken in vain. It is the next one to be taken.

        Of several items, the last one that was taken is put back first.
        """
        callers = self._waiting.setdefault(owner.project, OrderedDict())
        callers.setdefault(owner.caller, deque()).appendleft(item)
        callers.move_to_end(owner.caller, last=False)
        self._waiting.move_to_end(owner.project, last=False)

    def take(self) -> tuple[str, ItemT] | None:
        """Take the item whose turn it is.

        Returns:
            Its project, to give back, and the item; None if no item may be taken now.
        """
        project = next((name for name in self._waiting if self._taken[name] < self._share), None)
        if project is None:
            return None
        callers = self._waiting[project]
        caller, items = next(iter(callers.items()))
        item = items.popleft()
        callers.move_to_end(caller)
        self._waiting.move_to_end(project)
        if not items:
            del callers[caller]
        if not callers:
            del self._waiting[project]
        self._taken[project] += 1
        return project, item

    def give_back(self, project: str) -> None:
        """Note that an item of this project is done."""
        self._taken[project] -= 1
        if not self._taken[project]:
            del self._taken[project]

    def remove(self, owner: Owner, item: ItemT) -> None:
        """Remove an item that still waits. Raises KeyError, ValueError if it does not."""
        callers = self._waiting[owner.project]
        callers[owner.caller].remove(item)
        if not callers[owner.caller]:
            del callers[owner.caller]
        if not callers:
            del self._waiting[owner.project]

    def count(self, project: str) -> int:
        """Return how many items of a project wait."""
        return sum(map(len, self._waiting.get(project, {}).values()))

    def __len__(self) -> int:
        """Return how many items wait."""
        return sum(len(items) for callers in self._waiting.values() for items in callers.values())


class FairSlots:
    """A limited number of slots on the event loop, such as sandboxes, that projects get in turn.

    Args:
        count: How many slots there are.
        share: How many of them one project may have at once.
    """

    def __init__(self, count: int, share: int) -> None:
        self.count, self._free = count, count
        self._queue = FairQueue[asyncio.Future[None]](share)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot inside the block. It is the turn of the current owner when the block begins.

        Raises:
            QueueFull: The limit of the owner is reached.
        """
        owner, turn = current_owner.get(), asyncio.get_running_loop().create_future()
        self._queue.put(owner, turn)
        self._start()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._end(owner.project)  # The turn came together with the cancel.
            else:
                with suppress(KeyError, ValueError):  # It was passed over already.
                    self._queue.remove(owner, turn)
            raise
        try:
            yield
        finally:
            self._end(owner.project)

    @property
    def busy(self) -> int:
        """How many slots are held."""
        return self.count - self._free

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    def _start(self) -> None:
        """Give the free slots to those whose turn it is."""
        while self._free and (taken := self._queue.take()) is not None:
            project, turn = taken
            if turn.cancelled():
                self._queue.give_back(project)
                continue
            self._free -= 1
            turn.set_result(None)

    def _end(self, project: str) -> None:
        self._free += 1
        self._queue.give_back(project)
        self._start()
