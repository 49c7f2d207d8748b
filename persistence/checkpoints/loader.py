"""Reads a run's checkpoint as LangGraph knows it: folded from its changes, with node outputs put back, and what waits on top."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.base import PendingWrite as GraphWrite
from typeid import TypeID
from uuid_utils import UUID

from engine.events import Usage
from engine.graph.channels import NODE_RECORDS, NodeRecord, records_from
from persistence.checkpoints.codec import fold, unpack, unpack_write
from persistence.events.codec import usage_of


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint as it was read, with the writes that wait on top of it."""

    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    id: str
    parent_id: str | None
    since_full: int
    writes: list[GraphWrite]

    def tuple(self, run_id: str) -> CheckpointTuple:
        parent = config_of(run_id, graph_id(self.parent_id)) if self.parent_id else None
        return CheckpointTuple(
            config_of(run_id, self.checkpoint["id"]), self.checkpoint, self.metadata, parent, self.writes
        )


async def load(pool: asyncpg.Pool, run_id: str, asked: str | None = None) -> LoadedCheckpoint | None:
    """A checkpoint as it was stored, the head if none is asked for; None where there is none."""
    rows = await pool.fetch(_LOAD, run_id, asked)
    if not rows:
        return None
    last = rows[-1]
    checkpoint, metadata = fold([unpack(row["data"]) for row in rows])
    found = await pool.fetch(_OUTPUTS, run_id, last["seq"])
    outputs = {row["node_id"]: row["output"] for row in found}
    values = checkpoint["channel_values"]
    if NODE_RECORDS in values:
        values[NODE_RECORDS] = _with_outputs(records_from(values[NODE_RECORDS]), outputs)
    stored = await pool.fetch(_WRITES, run_id, last["id"])
    if any(row["channel"] == NODE_RECORDS for row in stored):
        # Their outputs came after the checkpoint, with the writes themselves.
        found = await pool.fetch(_OUTPUTS, run_id, None)
        outputs = {row["node_id"]: row["output"] for row in found}
    writes = [(row["task_id"], row["channel"], _written(row, outputs)) for row in stored]
    return LoadedCheckpoint(checkpoint, metadata, last["id"], last["parent_id"], len(rows), writes)


async def usage_of_visits(pool: asyncpg.Pool, run_id: str, visits: Mapping[str, int]) -> dict[str, Usage]:
    """What these visits, by node, have taken of models as far as it is stored."""
    rows = await pool.fetch(_USAGE, run_id, list(visits), list(visits.values()))
    taken = {row["node_id"]: usage_of(row["usage"]) for row in rows}
    return {node_id: usage for node_id, usage in taken.items() if usage is not None}


def _written(row: Any, outputs: dict[str, Any]) -> Any:
    value = unpack_write(row["channel"], row["value"])
    return _with_outputs(value, outputs) if row["channel"] == NODE_RECORDS else value


def _with_outputs(slots: dict[str, NodeRecord], outputs: dict[str, Any]) -> dict[str, NodeRecord]:
    return {node_id: slot.evolve(output=outputs.get(node_id)) for node_id, slot in slots.items()}


def checkpoint_id(graph_id: str) -> str:
    """LangGraph's checkpoint id as ours: the same UUID, told with its type."""
    return str(TypeID.from_uuid(UUID(graph_id), prefix="ckp"))


def graph_id(id_: str) -> str:
    """The reverse of `checkpoint_id`."""
    return str(TypeID.from_string(id_).uuid)


def config_of(run_id: str, graph_id_: str) -> RunnableConfig:
    """A checkpoint as LangGraph asks for it."""
    return {"configurable": {"thread_id": run_id, "checkpoint_ns": "", "checkpoint_id": graph_id_}}


_LOAD = """
WITH asked AS (
    SELECT max(seq) AS seq FROM checkpoints
    WHERE run_id = $1 AND CASE WHEN $2::text IS NULL THEN superseded_seq IS NULL ELSE id = $2 END
), standing AS (
    SELECT c.* FROM checkpoints c, asked
    WHERE run_id = $1 AND c.seq <= asked.seq AND (superseded_seq IS NULL OR superseded_seq > asked.seq)
), base AS (
    SELECT max(seq) AS seq FROM standing WHERE is_full
)
SELECT id, parent_id, s.seq, data FROM standing s, base WHERE s.seq >= base.seq ORDER BY s.seq
"""
"""A head is the newest checkpoint that no rewind took back; any other one is read as it stood when it was made."""
_OUTPUTS = """
SELECT DISTINCT ON (node_id) node_id, output FROM node_outputs
WHERE run_id = $1 AND CASE WHEN $2::int IS NULL THEN superseded_seq IS NULL
    ELSE seq <= $2 AND (superseded_seq IS NULL OR superseded_seq > $2) END
ORDER BY node_id, seq DESC
"""
_USAGE = """
SELECT s.node_id, s.usage FROM node_states s JOIN unnest($2::text[], $3::int[]) AS v(node_id, visits)
    USING (node_id, visits) WHERE s.run_id = $1
"""
_WRITES = """
SELECT task_id, channel, value FROM pending_writes WHERE run_id = $1 AND checkpoint_id = $2 ORDER BY idx
"""
