"""Runs the items of a `map`, so many at once, and keeps what is done: a task a lane, not an item.

Items are begun in order. Those that are done become durable in batches while the others run; a crash, or a lease that is lost,
loses the last batch and no more. What is kept in memory is one text of JSON an item, and all of them together are no larger than
an output may be.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

import orjson
import structlog

from engine.errors import NodeFailure
from engine.events import RunError
from engine.nodes.map.item_runner import RunItem
from engine.runtime.node_context import RunNodeContext
from engine.runtime.ports import Fenced
from engine.sdk.resources import DoneItem, MapItems, MapVisit
from engine.types import JSON
from engine.values.storable import MAX_SIZE

log = structlog.get_logger(__name__)

SLICE_S = 0.01
"""After this much computing without a pause a lane lets others have a turn."""
BATCH = 500
BATCH_S = 0.1
"""Items that are done become durable when there are so many of them, or after this long."""
LAST_S = 2.0
"""How long an interrupted map may take to make the rest of it durable."""
MESSAGE = 1_000
"""Characters of a failed item's message."""


@dataclass(slots=True)
class ItemPool:
    """One map's items. `is_collecting`: a failed item is null and named among the errors; else it fails the map."""

    items: Sequence[JSON]
    run_item: RunItem
    context: RunNodeContext
    concurrency: int
    is_collecting: bool
    _done: dict[int, DoneItem] = field(default_factory=dict)
    _unkept: list[DoneItem] = field(default_factory=list)
    _size: int = 0
    _full: asyncio.Event = field(default_factory=asyncio.Event)
    _is_over: bool = False

    async def run(self) -> JSON:
        """`{items, errors}`. Raises NodeFailure."""
        await self._recall()
        left = (index for index in range(len(self.items)) if index not in self._done)
        self._tell()
        try:
            await self._run_all(left)
        except BaseException:
            await self._keep_rest()
            raise
        return self._result()

    async def _run_all(self, left: Iterator[int]) -> None:
        count = min(self.concurrency, len(self.items) - len(self._done))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_on())
                lanes = [group.create_task(self._lane(left)) for _ in range(count)]
                await asyncio.gather(*lanes)
                self._is_over = True
                self._full.set()
        except BaseExceptionGroup as failed:
            # The first that failed; the others were cancelled for it.
            raise failed.exceptions[0] from None

    async def _lane(self, left: Iterator[int]) -> None:
        until = monotonic() + SLICE_S
        for index in left:
            output, error = await self.run_item(index, self.items[index])
            self._add(self._as_done(index, output, error))
            self._tell()
            if monotonic() > until:
                await asyncio.sleep(0)
                until = monotonic() + SLICE_S

    def _as_done(self, index: int, output: JSON, error: RunError | None) -> DoneItem:
        digest = digest_of(self.items[index])
        if error is None:
            # orjson keeps some KiB of room behind every text that it writes; a copy has none.
            text = orjson.dumps(output).decode()
            self._grow(text)
            return DoneItem(index, digest, text)
        if not self.is_collecting:
            details = {"index": index, "nodeId": error.node_id, "details": error.details}
            message = f"item {index}: {error.message}"
            raise NodeFailure(error.code, message, retryable=error.retryable, details=details)
        message = error.message[:MESSAGE]
        self._grow(message)
        return DoneItem(index, digest, None, {"code": error.code, "message": message})

    def _grow(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_SIZE:
            told = f"the outputs of the items together are larger than {MAX_SIZE // 1024 // 1024} MiB"
            raise NodeFailure("OUTPUT", told)

    def _add(self, done: DoneItem) -> None:
        self._done[done.index] = done
        self._unkept.append(done)
        if len(self._unkept) >= BATCH:
            self._full.set()

    def _tell(self) -> None:
        done, total = len(self._done), len(self.items)
        self.context.progress(done / total if total else 1.0, f"{done} of {total} items")

    def _result(self) -> JSON:
        """Each item's text becomes its value and is let go."""
        outputs: list[JSON] = []
        errors: list[JSON] = []
        for index in range(len(self.items)):
            done = self._done.pop(index)
            outputs.append(None if done.output is None else orjson.loads(done.output))
            if done.error is not None:
                errors.append({"index": index, **done.error})
        return {"items": outputs, "errors": errors}

    # What is durable.

    @property
    def _store(self) -> MapItems | None:
        store: MapItems | None = self.context.resources.get("items")
        return store

    @property
    def _visit(self) -> MapVisit:
        info, context = self.context.info, self.context
        return MapVisit(info.id, info.epoch, info.lineage, context.node_id, context.visit)

    async def _recall(self) -> None:
        """What an earlier attempt, or another worker, has done of this visit, if it was done for the same items."""
        if self._store is None:
            return
        for done in await self._store.load(self._visit):
            if done.index < len(self.items) and done.digest == digest_of(self.items[done.index]):
                self._done[done.index] = done
                self._grow(done.output or "" if done.error is None else done.error["message"])

    async def _keep_on(self) -> None:
        """Until all is done: then the node's own end is what becomes durable."""
        while not self._is_over:
            self._full.clear()  # Before: what is said while it keeps is not lost.
            await self._keep()
            with suppress(TimeoutError):
                async with asyncio.timeout(BATCH_S):
                    await self._full.wait()

    async def _keep(self) -> None:
        unkept, self._unkept = self._unkept, []
        if not unkept or self._store is None:
            return
        try:
            await self._store.save(self._visit, unkept)
        except Fenced as fenced:
            raise NodeFailure("FENCED", str(fenced)) from fenced
        except BaseException:
            self._unkept = [*unkept, *self._unkept]
            raise

    async def _keep_rest(self) -> None:
        """What was done before a pause, a drain or a failure is not done again. Nor is the way out held up by it: a cancel,
        whatever else ends the run, and a lease that is lost do not wait for it.
        """
        given_up = self.context.given_up or asyncio.Event()
        if not self._unkept or given_up.is_set():
            return
        keeping, ending = asyncio.create_task(self._keep()), asyncio.create_task(given_up.wait())
        try:
            await asyncio.wait({keeping, ending}, timeout=LAST_S, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                self._warn_of(keeping.exception())
            elif not ending.done():
                self._warn_of(TimeoutError(f"not within {LAST_S:g} s"))
        finally:
            ending.cancel()
            keeping.cancel()

    def _warn_of(self, wrong: BaseException | None) -> None:
        if wrong is not None:
            told = str(wrong) or type(wrong).__name__
            log.warning("map.rest_not_kept", run_id=self.context.run_id, node_id=self.context.node_id, error=told)


def digest_of(item: JSON) -> int:
    """64 bits with a sign, as a column of Postgres has them."""
    return int.from_bytes(hashlib.blake2b(orjson.dumps(item), digest_size=8).digest(), "big", signed=True)
