"""LangGraph's checkpoint saver on our journal: one head for each run, stored as deltas.

The executor of a run commits its checkpoints, each in one entry with everything that the superstep
did. A crash leaves the head as the last commit left it. Node outputs are not in checkpoints: they
are stored once, and added when a head is loaded. Used by compiled graphs and by the executor.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import asyncpg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import NODE_RECORDS, NodeRecord
from engine.graph.head import TaskWrite, head_checkpoint, next_nodes, with_sends
from engine.graph.position import JOIN, LOOP
from engine.runtime.ports import AttachedRun, CheckpointRecord, CheckpointStep, ResumeState
from engine.states import WITH_WAIT
from persistence.checkpoints.codec import CheckpointDelta, pack
from persistence.checkpoints.loader import (
    checkpoint_id,
    config_of,
    graph_id,
    load,
    states_before_skip,
    states_of_visits,
)
from persistence.db.clock_skew import ClockSkew
from persistence.events.steps import pack_steps, stored_id
from persistence.runs.waits import open_waits

FULL_EVERY = 100
"""Number of checkpoints from one full one to the next. It limits what a claim has to read."""


@dataclass(slots=True)
class Thread:
    """One attached run: its head in the form of LangGraph."""

    run: AttachedRun
    checkpoint: Checkpoint | None = None
    metadata: CheckpointMetadata = field(default_factory=lambda: cast(CheckpointMetadata, {}))
    id: str | None = None
    parent_id: str | None = None
    since_full: int = 0
    has_pending_writes: bool = False
    """Whether the head has pending writes of an older release, which the next checkpoint replaces."""
    writes: list[TaskWrite] = field(default_factory=list)
    """The writes of the tasks of the superstep that is under way."""

    step_count: int = 0
    """The number of steps in this invocation. LangGraph counts only its supersteps."""


class Saver(BaseCheckpointSaver[int]):
    """The checkpointer of every compiled graph in a worker process; a thread is a run."""

    keeps_steps = True

    def __init__(self, pool: asyncpg.Pool, clock_skew: ClockSkew) -> None:
        super().__init__()
        self._pool, self._clock_skew = pool, clock_skew
        self._threads: dict[str, Thread] = {}

    # The interface for the executor (engine.runtime.ports.HeadStore).

    async def attach(self, run: AttachedRun) -> ResumeState | None:
        """Load the head of a run that is about to be executed.

        None: the run has no checkpoint yet.
        """
        thread = self._threads[run.run_id] = Thread(run)
        stored = None if run.is_new else await load(self._pool, run.run_id)
        if stored is None:
            return None
        values = dict(stored.checkpoint["channel_values"])
        records: dict[str, NodeRecord] = dict(values.pop(NODE_RECORDS, {}))
        # The pending writes of an older release. Its Sends were preceded by those of the head.
        pending_sends = [value for _, channel, value in stored.writes if channel == TASKS]
        sends = pending_sends or list(values.get(TASKS, ()))
        tokens = [value for _, channel, value in stored.writes if channel not in (TASKS, NODE_RECORDS)]
        for _, channel, value in stored.writes:
            if channel == NODE_RECORDS:
                records.update(value)
        values.pop(TASKS, None)
        thread.checkpoint, thread.metadata = stored.checkpoint.copy(), stored.metadata
        graph_values = {name: value for name, value in values.items() if not name.startswith((JOIN, LOOP))}
        thread.checkpoint["channel_values"] = {**graph_values, TASKS: sends} if sends else graph_values
        thread.id, thread.parent_id = stored.id, stored.parent_id
        # The next checkpoint replaces pending writes, so it has to contain all of the state.
        thread.has_pending_writes = bool(stored.writes)
        thread.since_full = FULL_EVERY if stored.writes else stored.since_full
        is_waiting = any(record.status in WITH_WAIT for record in records.values())
        skipped = {id_: record.visits for id_, record in records.items() if record.visited is not None}
        needed = {id_: record.visits for id_, record in records.items() if run.needs_state(id_, record)}
        return ResumeState(
            records,
            values,
            {send.node: send.arg for send in sends},
            stored.metadata.get("step", 0),
            waits=await open_waits(self._pool, run.run_id, self._clock_skew.offset) if is_waiting else [],
            states=await states_of_visits(self._pool, run.run_id, needed) if needed else {},
            before_skip=await states_before_skip(self._pool, run.run_id, skipped) if skipped else {},
            tokens=tokens,
        )

    def detach(self, run_id: str) -> None:
        """Forget the head of a run that is no longer executed."""
        self._threads.pop(run_id, None)

    def begin(self, run_id: str, sends: Sequence[Send]) -> CheckpointRecord:
        """Make the first checkpoint of a run, after its first stretch."""
        thread = self._threads[run_id]
        steps = thread.run.take_steps()
        metadata = cast(CheckpointMetadata, {"source": "loop", "step": len(steps), "parents": {}})
        checkpoint = head_checkpoint(0, sends)
        return self._record(thread, checkpoint, metadata, checkpoint["channel_versions"], steps)

    def enter(self, run_id: str, sends: Sequence[Send]) -> None:
        """Make nodes due on top of the head. The next checkpoint has them."""
        thread = self._threads[run_id]
        if thread.checkpoint is None:
            raise RuntimeError(f"run {run_id} has no checkpoint yet, so no node can be made due on top of it")
        thread.checkpoint = with_sends(thread.checkpoint, sends)

    def save(self, run_id: str) -> CheckpointRecord | None:
        """Make a checkpoint of the state as it is, outside of a superstep.

        None: the run has no head yet.
        """
        thread = self._threads[run_id]
        if thread.checkpoint is None:
            return None
        steps = thread.run.take_steps()
        step = thread.metadata.get("step", 0) + len(steps)
        checkpoint = head_checkpoint(step, thread.checkpoint["channel_values"].get(TASKS, ()), thread.checkpoint)
        metadata = cast(CheckpointMetadata, {"source": "update", "step": step, "parents": {}})
        return self._record(thread, checkpoint, metadata, checkpoint["channel_versions"], steps)

    # The interface for LangGraph (BaseCheckpointSaver).

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the head of an attached run from memory, other checkpoints from Postgres."""
        run_id, id = config["configurable"]["thread_id"], config["configurable"].get("checkpoint_id")
        thread = self._threads.get(run_id)
        if thread is None or (id is not None and (thread.checkpoint is None or thread.checkpoint["id"] != id)):
            stored = await load(self._pool, run_id, None if id is None else checkpoint_id(id))
            return None if stored is None else stored.tuple(run_id)
        if thread.checkpoint is None:
            return None
        thread.step_count = 0  # The invocation that begins counts from the step of the head.
        checkpoint = thread.checkpoint.copy()
        parent = config_of(run_id, graph_id(thread.parent_id)) if thread.parent_id else None
        return CheckpointTuple(
            config_of(run_id, checkpoint["id"]), checkpoint, thread.metadata, parent, list(thread.writes)
        )

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Commit a checkpoint through the executor of the run; it is durable when this returns."""
        run_id = config["configurable"]["thread_id"]
        thread = self._threads[run_id]
        steps = thread.run.take_steps()
        thread.step_count += len(steps)
        if thread.step_count:
            metadata = cast(CheckpointMetadata, {**metadata, "step": metadata["step"] + thread.step_count})
        record = self._record(thread, checkpoint, metadata, new_versions, steps)
        await thread.run.commit_superstep(record, has_next=bool(next_nodes(checkpoint)))
        thread.writes = []
        return config_of(run_id, graph_id(record.id))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, *_: Any, **__: Any
    ) -> None:
        """Keep the writes of a task for the next invocation, in place of its earlier ones.

        They are not stored, because they are part of the superstep's checkpoint moments later. The
        signature does not name `task_path`, because LangGraph computes it only for savers that do.
        """
        thread = self._threads[config["configurable"]["thread_id"]]
        thread.writes = [write for write in thread.writes if write[0] != task_id]
        thread.writes += [(task_id, channel, value) for channel, value in writes]

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """List the checkpoints of a run, newest first. Loads each one by itself, so it is slow."""
        if config is None:
            raise ValueError("checkpoints can be listed only for one run")
        run_id = config["configurable"]["thread_id"]
        until = checkpoint_id(before["configurable"]["checkpoint_id"]) if before else None
        count = 0
        for row in await self._pool.fetch(_LIST, run_id, until):
            if limit is not None and count >= limit:
                return
            checkpoint = await self.aget_tuple(config_of(run_id, graph_id(row["id"])))
            if checkpoint is not None and (filter or {}).items() <= dict(checkpoint.metadata).items():
                count += 1
                yield checkpoint

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete the checkpoints of a run and the pending writes on them."""
        self.detach(thread_id)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("DELETE FROM pending_writes WHERE run_id = $1", thread_id)
            await connection.execute("DELETE FROM checkpoints WHERE run_id = $1", thread_id)

    # The stored form.

    def _record(
        self,
        thread: Thread,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        steps: Sequence[CheckpointStep],
    ) -> CheckpointRecord:
        is_full = thread.checkpoint is None or thread.since_full >= FULL_EVERY
        id_ = checkpoint_id(checkpoint["id"])
        if steps:
            id_ = stored_id(id_)
            checkpoint = cast(Checkpoint, {**checkpoint, "id": graph_id(id_)})
        delta = CheckpointDelta.between(None if is_full else thread.checkpoint, checkpoint, metadata, new_versions)
        delta.values.update(thread.run.take_changes(is_full=is_full))
        record = CheckpointRecord(
            id=id_,
            parent_id=thread.id,
            step=metadata.get("step", 0),
            is_full=is_full,
            data=pack(delta),
            next_nodes=[*next_nodes(checkpoint), *thread.run.running_nodes],
            # The steps are relative to the head without its pending writes.
            steps=None if thread.has_pending_writes else pack_steps(steps, thread.run.event_count),
        )
        thread.has_pending_writes = False
        thread.checkpoint, thread.metadata = checkpoint, metadata
        thread.parent_id, thread.id = thread.id, record.id
        # A claim reads about as many steps as records at most, or FULL_EVERY checkpoints.
        cost = 1 + FULL_EVERY * len(steps) // max(FULL_EVERY, thread.run.record_count)
        thread.since_full = 1 if is_full else thread.since_full + cost
        return record


_LIST = """
SELECT id FROM checkpoints WHERE run_id = $1
    AND ($2::text IS NULL OR seq < (SELECT seq FROM checkpoints WHERE run_id = $1 AND id = $2))
ORDER BY seq DESC
"""
