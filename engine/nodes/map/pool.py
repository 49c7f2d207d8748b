"""Runs the items of a `map` with limited concurrency, and makes finished items durable.

Items start in the order of the list; there is one task for each concurrent item, not one for each
item of the list. Finished items become durable in batches while others run, so a crash or a lost
lease loses at most the last batch. In memory each finished item is one JSON text, and all of them
together are no larger than an output may be.
"""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

import orjson
import structlog

from engine.errors import RETRY_AFTER, NodeFailure, NodeInterrupted
from engine.events import RunError
from engine.nodes.map.item_runner import RunItem
from engine.runtime.node_context import RunNodeContext
from engine.runtime.ports import Fenced
from engine.sdk.resources import DoneItem, MapItems, MapVisit
from engine.types import JSON
from engine.values.storable import MAX_SIZE

log = structlog.get_logger(__name__)

SLICE_S = 0.01
"""Seconds of computing without a pause after which a worker task yields to the event loop."""
BATCH = 500
"""Finished items that are made durable as soon as there are so many."""
BATCH_S = 0.1
"""Seconds after which a smaller batch is made durable."""
FLUSH_S = 2.0
"""Seconds that an interrupted map may take to make its last batch durable."""
MAX_MESSAGE = 1_000
"""Characters of the message of a failed item."""
MAX_DETAILS = 256 * 1024
"""Bytes of the details of all failed items. The errors of further items have no details."""


@dataclass(slots=True)
class ItemPool:
    """The items of one visit of a map.

    `is_collecting`: a failed item has the output null and is listed among the errors. Otherwise it
    fails the map.
    """

    items: Sequence[JSON]
    run_item: RunItem
    context: RunNodeContext
    concurrency: int
    is_collecting: bool
    _done: dict[int, DoneItem] = field(default_factory=dict)
    _unsaved: list[DoneItem] = field(default_factory=list)
    _size: int = 0
    _details_size: int = 0
    _save_now: asyncio.Event = field(default_factory=asyncio.Event)
    _is_over: bool = False

    async def run(self) -> JSON:
        """Run every item that is not finished yet.

        Returns:
            `{items, errors}`, the output of the map.

        Raises:
            NodeFailure: An item failed, unless failures are collected; the outputs are too large;
                or another worker has the run.
            NodeInterrupted: The run pauses or is released before all items have begun.
        """
        await self._load()
        remaining = (index for index in range(len(self.items)) if index not in self._done)
        self._report_progress()
        try:
            await self._run_all(remaining)
        except BaseException:
            await self._flush()
            raise
        if len(self._done) < len(self.items):
            await self._flush()
            raise NodeInterrupted
        return self._output()

    async def _run_all(self, remaining: Iterator[int]) -> None:
        count = min(self.concurrency, len(self.items) - len(self._done))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._save_batches())
                workers = [group.create_task(self._run_items(remaining)) for _ in range(count)]
                await asyncio.gather(*workers)
                self._is_over = True
                self._save_now.set()
        except BaseExceptionGroup as failures:
            # The first one is the cause; the other tasks were cancelled because of it.
            raise failures.exceptions[0] from None

    async def _run_items(self, remaining: Iterator[int]) -> None:
        """Run items until none is left, or until the run stops.

        All workers take from the same iterator.
        """
        until = monotonic() + SLICE_S
        while not self.context.stopping.is_set() and (index := next(remaining, None)) is not None:
            try:
                output, error = await self.run_item(index, self.items[index])
            except NodeInterrupted:
                return
            self._add(self._done_item(index, output, error))
            self._report_progress()
            if monotonic() > until:
                await asyncio.sleep(0)
                until = monotonic() + SLICE_S

    def _done_item(self, index: int, output: JSON, error: RunError | None) -> DoneItem:
        digest = digest_of(self.items[index])
        if error is None:
            # orjson allocates some KiB more than a text needs; the decoded copy does not.
            text = orjson.dumps(output).decode()
            self._add_size(text)
            return DoneItem(index, digest, text)
        if not self.is_collecting:
            message = f"item {index}: {error.message}"
            raise NodeFailure(error.code, message, retryable=error.retryable, details=_details_of(index, error))
        body = self._error_body(error)
        self._add_error_size(body)
        return DoneItem(index, digest, None, body)

    def _error_body(self, error: RunError) -> dict[str, JSON]:
        """Return the error of an item, without details once those of all items are too large."""
        size = len(orjson.dumps(error.details))
        details = error.details if self._details_size + size <= MAX_DETAILS else None
        message = error.message[:MAX_MESSAGE]
        return {"code": error.code, "message": message, "retryable": error.retryable, "details": details}

    def _add_error_size(self, error: dict[str, JSON]) -> None:
        details = orjson.dumps(error.get("details")).decode()
        self._details_size += len(details)
        self._add_size(f"{error['message']}{details}")

    def _add_size(self, text: str) -> None:
        self._size += len(text)
        if self._size > MAX_SIZE:
            message = f"the outputs of the items together are larger than {MAX_SIZE // 1024 // 1024} MiB"
            raise NodeFailure("OUTPUT", message)

    def _add(self, done: DoneItem) -> None:
        self._done[done.index] = done
        self._unsaved.append(done)
        if len(self._unsaved) >= BATCH:
            self._save_now.set()

    def _report_progress(self) -> None:
        done, total = len(self._done), len(self.items)
        self.context.progress(done / total if total else 1.0, f"{done} of {total} items")

    def _output(self) -> JSON:
        """Build the output.

        Each text is released once it is parsed, so both forms are not in memory together.
        """
        outputs: list[JSON] = []
        errors: list[JSON] = []
        for index in range(len(self.items)):
            done = self._done.pop(index)
            outputs.append(None if done.output is None else orjson.loads(done.output))
            if done.error is not None:
                # An item of an earlier release was stored without the last two fields.
                errors.append({"index": index, "retryable": False, "details": None, **done.error})
        return {"items": outputs, "errors": errors}

    # Durability.

    @property
    def _store(self) -> MapItems | None:
        store: MapItems | None = self.context.resources.get("items")
        return store

    @property
    def _visit(self) -> MapVisit:
        info, context = self.context.info, self.context
        return MapVisit(info.id, info.epoch, info.lineage, context.node_id, context.visit)

    async def _load(self) -> None:
        """Load the items that an earlier attempt or another worker has finished in this visit.

        An item counts only if the list still has the same value at its index.
        """
        if self._store is None:
            return
        for done in await self._store.load(self._visit):
            if done.index < len(self.items) and done.digest == digest_of(self.items[done.index]):
                self._done[done.index] = done
                if done.error is None:
                    self._add_size(done.output or "")
                else:
                    self._add_error_size(done.error)

    async def _save_batches(self) -> None:
        """Save finished items until the map is over, when its own result replaces them."""
        while not self._is_over:
            self._save_now.clear()  # before saving, so that a signal during it is not lost
            await self._save()
            with suppress(TimeoutError):
                async with asyncio.timeout(BATCH_S):
                    await self._save_now.wait()

    async def _save(self) -> None:
        batch, self._unsaved = self._unsaved, []
        if not batch or self._store is None:
            return
        try:
            await self._store.save(self._visit, batch)
        except Fenced as fenced:
            raise NodeFailure("FENCED", str(fenced)) from fenced
        except BaseException:
            self._unsaved = [*batch, *self._unsaved]
            raise

    async def _flush(self) -> None:
        """Save the last batch before a pause, a drain or a failure.

        Its items then do not run again.

        This takes at most FLUSH_S, and ends at once when the run is cancelled or ends in another
        way, or when its lease is lost.
        """
        abandoned = self.context.abandoned or asyncio.Event()
        if not self._unsaved or abandoned.is_set():
            return
        saving, ending = asyncio.create_task(self._save()), asyncio.create_task(abandoned.wait())
        try:
            await asyncio.wait({saving, ending}, timeout=FLUSH_S, return_when=asyncio.FIRST_COMPLETED)
            if saving.done():
                self._warn_unsaved(saving.exception())
            elif not ending.done():
                self._warn_unsaved(TimeoutError(f"not within {FLUSH_S:g} s"))
        finally:
            ending.cancel()
            saving.cancel()

    def _warn_unsaved(self, error: BaseException | None) -> None:
        if error is not None:
            message = str(error) or type(error).__name__
            log.warning("map.items_not_stored", run_id=self.context.run_id, node_id=self.context.node_id, error=message)


def _details_of(index: int, error: RunError) -> dict[str, JSON]:
    """Return the details of a map that fails because of an item.

    The pause that the service asks for is repeated here, where the `retry` of the map reads it.
    """
    details: dict[str, JSON] = {"index": index, "nodeId": error.node_id, "details": error.details}
    if isinstance(error.details, dict) and RETRY_AFTER in error.details:
        details[RETRY_AFTER] = error.details[RETRY_AFTER]
    return details


def digest_of(item: JSON) -> int:
    """Return a digest of an item: 64 bits, signed, to fit a bigint column of Postgres."""
    return int.from_bytes(hashlib.blake2b(orjson.dumps(item), digest_size=8).digest(), "big", signed=True)
