"""The head of a run that lives as long as the call that drives it: an item of a map. One object a run; nothing is stored."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple
from langgraph.constants import TASKS

from engine.graph.channels import JOIN_BARRIER, LOOP, NODE_RECORDS
from engine.graph.compiler import CompiledGraph, Write
from engine.runtime.executor import RunExecutor
from engine.runtime.ports import CheckpointRecord, PendingWrite, ResumeState


class MemoryHeadStore(BaseCheckpointSaver[int]):
    """The last checkpoint, and what LangGraph has written since."""

    def __init__(self) -> None:
        super().__init__()
        self._drive: RunExecutor
        self._saved: tuple[Checkpoint, Any] | None = None
        self._pending: list[tuple[str, str, Any]] = []
        self._has_sends = False

    def under(self, compiled: CompiledGraph) -> CompiledGraph:
        """The same graph, with its checkpoints kept here."""
        graph = copy.copy(compiled.graph)
        graph.checkpointer = self
        return replace(compiled, graph=graph)

    async def attach(self, executor: RunExecutor) -> ResumeState | None:
        self._drive = executor
        return None

    def detach(self, run_id: str) -> None:
        return None

    def enter(self, run_id: str, writes: Sequence[Write]) -> tuple[list[Write], list[PendingWrite]]:
        """An outside write must not lose the turns that are due: the first after a checkpoint brings them along."""
        assert self._saved is not None
        entering = list(writes)
        if not self._has_sends and any(channel == TASKS for channel, _ in entering):
            entering = [(TASKS, send) for send in self._saved[0]["channel_values"].get(TASKS, ())] + entering
            self._has_sends = True
        return entering, []

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        if self._saved is None:
            return None
        checkpoint, metadata = self._saved
        checkpoint = checkpoint.copy()
        checkpoint["channel_values"] = {**checkpoint["channel_values"], NODE_RECORDS: self._drive.memory.slots}
        return CheckpointTuple(self._place(checkpoint["id"]), checkpoint, metadata, None, list(self._pending))

    async def aput(self, config: RunnableConfig, checkpoint: Checkpoint, metadata: Any, new_versions: Any) -> Any:
        if metadata["source"] != "input":
            self._saved = (checkpoint, metadata)
            has_next = TASKS in checkpoint["channel_values"] or any(
                name.startswith((JOIN_BARRIER, LOOP)) for name in checkpoint["updated_channels"] or ()
            )
            record = CheckpointRecord(checkpoint["id"], None, metadata["step"], True, b"", [])
            await self._drive.commit_superstep(record, has_next=has_next)
            self._pending, self._has_sends = [], False
        return self._place(checkpoint["id"])

    async def aput_writes(self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = "") -> None:
        self._pending = [write for write in self._pending if write[0] != task_id]
        self._pending += [(task_id, channel, value) for channel, value in writes]

    def _place(self, checkpoint_id: str) -> RunnableConfig:
        place = {"thread_id": self._drive.info.id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        return cast(RunnableConfig, {"configurable": place})
