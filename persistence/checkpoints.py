"""LangGraph's checkpoint saver on our journal: one head a run, and every checkpoint a change over the one before it.

A driven run's checkpoints are committed by its Drive, in one entry with what the wave did; a crash leaves the head as the
last commit left it. Node outputs are not in checkpoints: they are stored once, and put back here when a head is loaded.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import asyncpg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.base import PendingWrite as GraphWrite
from langgraph.constants import TASKS
from typeid import TypeID
from uuid_utils import UUID

from engine.channels import GATE, LOOP, SLOTS, Slot, slots_from
from engine.ports import CheckpointRecord, PendingWrite
from persistence.packing import Delta, fold, pack, pack_write, unpack, unpack_write

if TYPE_CHECKING:
    from engine.compile import Write
    from engine.drive import Drive

NULL_TASK = "00000000-0000-0000-0000-000000000000"
"""LangGraph's id for writes from outside any task."""
FULL_EVERY = 100
"""Checkpoints between two whole ones: bounds what a take-up has to read."""


@dataclass(slots=True)
class Thread:
    """One attached run: its head as LangGraph sees it, and the writes that came in on top of it."""

    drive: "Drive"
    checkpoint: Checkpoint | None = None
    metadata: CheckpointMetadata = field(default_factory=lambda: cast(CheckpointMetadata, {}))
    id: str | None = None
    since_full: int = 0
    pending: list[GraphWrite] = field(default_factory=list)
    stored: int = 0
    """How many outside writes this head already has in the store."""
    has_sends: bool = False
    """Whether those bring the head's own pending Sends along."""


class Saver(BaseCheckpointSaver[int]):
    """The checkpointer of every compiled graph in a worker process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__()
        self._pool = pool
        self._threads: dict[str, Thread] = {}

    # The engine's side (engine.drive.Head).

    async def attach(self, drive: "Drive") -> dict[str, Slot] | None:
        thread = self._threads[drive.facts.id] = Thread(drive)
        rows = await self._pool.fetch(_LOAD, drive.facts.id)
        if not rows:
            return None
        thread.checkpoint, thread.metadata = fold([unpack(row["data"]) for row in rows])
        thread.id, thread.since_full = rows[-1]["id"], len(rows)
        outputs = {row["node_id"]: row["output"] for row in await self._pool.fetch(_OUTPUTS, drive.facts.id)}
        slots = _with_outputs(slots_from(thread.checkpoint["channel_values"].get(SLOTS, {})), outputs)
        for row in await self._pool.fetch(_WRITES, drive.facts.id, thread.id):
            value = unpack_write(row["channel"], row["value"])
            if row["channel"] == SLOTS:
                value = _with_outputs(value, outputs)
                slots.update(value)
            thread.has_sends = thread.has_sends or row["channel"] == TASKS
            thread.pending.append((row["task_id"], row["channel"], value))
        thread.stored = len(thread.pending)
        return slots

    def detach(self, run_id: str) -> None:
        self._threads.pop(run_id, None)

    def enter(self, run_id: str, writes: Sequence["Write"]) -> tuple[list["Write"], list[PendingWrite]]:
        thread = self._threads[run_id]
        if thread.checkpoint is None or thread.id is None:
            raise RuntimeError(f"run {run_id} has no head to write to")
        entering = list(writes)
        if not thread.has_sends and any(channel == TASKS for channel, _ in entering):
            # The channel of Sends takes a write in place of what it holds: what is due already must come along.
            entering = [(TASKS, send) for send in thread.checkpoint["channel_values"].get(TASKS, ())] + entering
            thread.has_sends = True
        rows = [
            PendingWrite(thread.id, NULL_TASK, thread.stored + index, channel, pack_write(channel, value))
            for index, (channel, value) in enumerate(entering)
        ]
        thread.stored += len(rows)
        return entering, rows

    # LangGraph's side.

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread = self._threads[config["configurable"]["thread_id"]]
        if thread.checkpoint is None:
            return None
        checkpoint = thread.checkpoint.copy()
        checkpoint["channel_values"] = {**checkpoint["channel_values"], SLOTS: thread.drive.memory.slots}
        return CheckpointTuple(
            _config(config, checkpoint["id"]), checkpoint, thread.metadata, None, list(thread.pending)
        )

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        thread = self._threads[config["configurable"]["thread_id"]]
        if metadata.get("source") == "input":
            # Nothing has run yet: a crash here starts the run afresh, at the cost of no commit.
            return _config(config, checkpoint["id"])
        record = self._record(thread, checkpoint, metadata, new_versions)
        due = _due(checkpoint)
        await thread.drive.commit_wave(record, has_next=bool(due))
        thread.pending, thread.stored, thread.has_sends = [], 0, False
        return _config(config, checkpoint["id"])

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Outside writes are kept for the next invocation. A wave's own are part of its checkpoint, moments later."""
        if task_id == NULL_TASK:
            thread = self._threads[config["configurable"]["thread_id"]]
            thread.pending = [(task_id, channel, value) for channel, value in writes]

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The head alone: a run's history is read through persistence.history."""
        found = await self.aget_tuple(config) if config else None
        if found is not None:
            yield found

    def _record(
        self, thread: Thread, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> CheckpointRecord:
        is_full = thread.checkpoint is None or thread.since_full >= FULL_EVERY
        delta = Delta.between(None if is_full else thread.checkpoint, checkpoint, metadata, new_versions)
        if is_full:
            delta.values[SLOTS] = thread.drive.memory.slots
        record = CheckpointRecord(
            id=checkpoint_id(checkpoint["id"]),
            parent_id=thread.id,
            step=metadata.get("step", 0),
            is_full=is_full,
            data=pack(delta),
            next_nodes=[*_due(checkpoint), *thread.drive.memory.running],
        )
        thread.checkpoint, thread.metadata, thread.id = checkpoint, metadata, record.id
        thread.since_full = 1 if is_full else thread.since_full + 1
        return record


def checkpoint_id(graph_id: str) -> str:
    """LangGraph's checkpoint id as ours: the same UUID, told with its type."""
    return str(TypeID.from_uuid(UUID(graph_id), prefix="ckp"))


def _due(checkpoint: Checkpoint) -> list[str]:
    """The nodes of the next wave: those that have a Send, and those whose gate has opened."""
    sends = [send.node for send in checkpoint["channel_values"].get(TASKS, ())]
    opened = [name for name in checkpoint["updated_channels"] or () if name.startswith((GATE, LOOP))]
    return [*sends, *(name.split(":", 1)[1] for name in opened)]


def _config(config: RunnableConfig, checkpoint_id_: str) -> RunnableConfig:
    thread_id = config["configurable"]["thread_id"]
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id_}}


def _with_outputs(slots: dict[str, Slot], outputs: dict[str, Any]) -> dict[str, Slot]:
    return {node_id: slot.evolve(output=outputs.get(node_id)) for node_id, slot in slots.items()}


_LOAD = """
WITH head AS (SELECT max(seq) AS seq FROM checkpoints WHERE run_id = $1),
base AS (SELECT max(c.seq) AS seq FROM checkpoints c, head WHERE run_id = $1 AND is_full AND c.seq <= head.seq)
SELECT id, data FROM checkpoints, base WHERE run_id = $1 AND checkpoints.seq >= base.seq ORDER BY checkpoints.seq
"""
_OUTPUTS = """
SELECT DISTINCT ON (node_id) node_id, output FROM node_outputs WHERE run_id = $1 AND NOT is_superseded
ORDER BY node_id, seq DESC
"""
_WRITES = "SELECT task_id, channel, value FROM pending_writes WHERE run_id = $1 AND checkpoint_id = $2 ORDER BY idx"
