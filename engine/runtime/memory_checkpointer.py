"""The checkpoint saver of a run that lives in memory, for one item of a map. Nothing is stored.

A crash loses the whole run: the map starts the item again.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple

from engine.graph.channels import NODE_RECORDS, Write
from engine.graph.compiler import CompiledGraph
from engine.graph.head import HeadWrites, next_nodes
from engine.runtime.ports import AttachedRun, CheckpointRecord, PendingWrite, ResumeState


class MemoryHeadStore(BaseCheckpointSaver[int]):
    """The last checkpoint of one run, with the writes on top of it.

    Implements engine.runtime.ports.HeadStore.
    """

    def __init__(self) -> None:
        super().__init__()
        self._run: AttachedRun
        self._saved: tuple[Checkpoint, Any] | None = None
        self._head_writes = HeadWrites()

    def bind(self, compiled: CompiledGraph) -> CompiledGraph:
        """Return the same graph with this object as its checkpoint saver."""
        graph = copy.copy(compiled.graph)
        graph.checkpointer = self
        return replace(compiled, graph=graph)

    async def attach(self, run: AttachedRun) -> ResumeState | None:
        self._run = run
        return None

    def detach(self, run_id: str) -> None:
        return None

    def enter(self, run_id: str, writes: Sequence[Write]) -> tuple[list[Write], list[PendingWrite]]:
        if self._saved is None:
            raise RuntimeError(f"run {run_id} has no checkpoint yet, so it cannot take outside writes")
        return self._head_writes.enter(self._saved[0]["channel_values"], writes), []

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        if self._saved is None:
            return None
        checkpoint, metadata = self._saved
        checkpoint = checkpoint.copy()
        checkpoint["channel_values"] = {**checkpoint["channel_values"], NODE_RECORDS: self._run.records}
        config = self._config(checkpoint["id"])
        return CheckpointTuple(config, checkpoint, metadata, None, list(self._head_writes.writes))

    async def aput(self, config: RunnableConfig, checkpoint: Checkpoint, metadata: Any, new_versions: Any) -> Any:
        if metadata["source"] != "input":
            self._saved = (checkpoint, metadata)
            has_next = bool(next_nodes(checkpoint))
            record = CheckpointRecord(checkpoint["id"], None, metadata["step"], True, b"", [])
            await self._run.commit_superstep(record, has_next=has_next)
            self._head_writes = HeadWrites()
        return self._config(checkpoint["id"])

    async def aput_writes(self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = "") -> None:
        self._head_writes.replace(task_id, writes)

    def _config(self, checkpoint_id: str) -> RunnableConfig:
        configurable = {"thread_id": self._run.run_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        return cast(RunnableConfig, {"configurable": configurable})
