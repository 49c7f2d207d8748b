"""The checkpoint saver of a run that lives in memory, for one item of a map. Nothing is stored.

A crash loses the whole run: the map starts the item again.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointTuple
from langgraph.types import Send

from engine.graph.compiler import CompiledGraph
from engine.graph.head import head_checkpoint, next_nodes, with_sends
from engine.runtime.ports import AttachedRun, CheckpointRecord, ResumeState


class MemoryHeadStore(BaseCheckpointSaver[int]):
    """The last checkpoint of one run. Implements engine.runtime.ports.HeadStore."""

    keeps_steps = False

    def __init__(self) -> None:
        super().__init__()
        self._run: AttachedRun
        self._saved: tuple[Checkpoint, Any] | None = None

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

    def begin(self, run_id: str, sends: Sequence[Send]) -> CheckpointRecord:
        checkpoint = head_checkpoint(0, sends)
        self._saved = (checkpoint, {"source": "loop", "step": 0, "parents": {}})
        self.save(run_id)
        return CheckpointRecord(checkpoint["id"], None, 0, True, b"", [])

    def enter(self, run_id: str, sends: Sequence[Send]) -> None:
        if self._saved is None:
            raise RuntimeError(f"run {run_id} has no checkpoint yet, so no node can be made due on top of it")
        checkpoint, metadata = self._saved
        self._saved = (with_sends(checkpoint, sends), metadata)

    def save(self, run_id: str) -> CheckpointRecord | None:
        self._run.take_changes(is_full=False)
        return None

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        if self._saved is None:
            return None
        checkpoint, metadata = self._saved
        return CheckpointTuple(self._config(checkpoint["id"]), checkpoint.copy(), metadata, None, [])

    async def aput(self, config: RunnableConfig, checkpoint: Checkpoint, metadata: Any, new_versions: Any) -> Any:
        self._saved = (checkpoint, metadata)
        self.save(self._run.run_id)
        record = CheckpointRecord(checkpoint["id"], None, metadata["step"], True, b"", [])
        await self._run.commit_superstep(record, has_next=bool(next_nodes(checkpoint)))
        return self._config(checkpoint["id"])

    async def aput_writes(self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = "") -> None:
        """Keep nothing: an interrupted superstep starts again with the whole run."""

    def _config(self, checkpoint_id: str) -> RunnableConfig:
        configurable = {"thread_id": self._run.run_id, "checkpoint_ns": "", "checkpoint_id": checkpoint_id}
        return cast(RunnableConfig, {"configurable": configurable})
