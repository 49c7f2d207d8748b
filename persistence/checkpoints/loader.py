"""Loads a checkpoint in the form of LangGraph, with node outputs and pending writes.

Nothing is written here. A checkpoint is folded from the last full one and the deltas since. Used by
the saver.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.base import PendingWrite as GraphWrite
from typeid import TypeID
from uuid_utils import UUID

from engine.events import NodeChange, NodeState
from engine.graph.channels import NODE_RECORDS, NodeRecord, records_from
from engine.states import EventType
from persistence.checkpoints.codec import fold, unpack, unpack_write
from persistence.events.codec import NODE_STATE_ROW, data_of, node_state_of


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint, with the pending writes on top of it."""

    checkpoint: Checkpoint
    metadata: CheckpointMetadata
    id: str
    parent_id: str | None
    since_full: int
    """Number of checkpoints from the last full one on, this one included."""
    writes: list[GraphWrite]

    def tuple(self, run_id: str) -> CheckpointTuple:
        """Return the checkpoint in the form of LangGraph's interface."""
        parent = config_of(run_id, graph_id(self.parent_id)) if self.parent_id else None
        return CheckpointTuple(
            config_of(run_id, self.checkpoint["id"]), self.checkpoint, self.metadata, parent, self.writes
        )


async def load(pool: asyncpg.Pool, run_id: str, id: str | None = None) -> LoadedCheckpoint | None:
    """Load a checkpoint.

    Args:
        pool: Connections to Postgres.
        run_id: The run.
        id: Our id of the checkpoint. None: the head.

    Returns:
        The checkpoint, or None if it does not exist.
    """
    rows = await pool.fetch(_LOAD, run_id, id)
    if not rows:
        return None
    last = rows[-1]
    checkpoint, metadata = fold([unpack(row["data"], row["steps"]) for row in rows])
    outputs = await _outputs(pool, run_id, last["seq"])
    values = checkpoint["channel_values"]
    if NODE_RECORDS in values:
        values[NODE_RECORDS] = _with_outputs(records_from(values[NODE_RECORDS]), outputs)
    pending = await pool.fetch(_WRITES, run_id, last["id"])
    if any(row["channel"] == NODE_RECORDS for row in pending):
        # The outputs of these records were stored with the writes, after the checkpoint.
        outputs = await _outputs(pool, run_id, None)
    writes = [(row["task_id"], row["channel"], _value_of(row, outputs)) for row in pending]
    return LoadedCheckpoint(checkpoint, metadata, last["id"], last["parent_id"], len(rows), writes)


async def _outputs(pool: asyncpg.Pool, run_id: str, seq: int | None) -> dict[str, Any]:
    """Read the latest output of each node, as of the event `seq`; None means as of now."""
    return {row["node_id"]: row["output"] for row in await pool.fetch(_OUTPUTS, run_id, seq)}


async def states_of_visits(pool: asyncpg.Pool, run_id: str, visits: Mapping[str, int]) -> dict[str, NodeState]:
    """Read the stored states of nodes, if they are of these visits or of earlier ones.

    The state after a visit has its input, because the state is stored again if a later round skips
    the node and the end of its loop shows it again. Its output is in the record of the node.

    Args:
        pool: Connections to Postgres.
        run_id: The run.
        visits: The numbers of the visits, by node.
    """
    rows = await pool.fetch(_STATES, run_id, list(visits), list(visits.values()))
    return {row["node_id"]: replace(node_state_of(tuple(row)[:-1]), input=row["input"]) for row in rows}


async def states_before_skip(pool: asyncpg.Pool, run_id: str, visits: Mapping[str, int]) -> dict[str, NodeState]:
    """Read the states in which the latest visits of skipped nodes ended, with their input.

    Args:
        pool: Connections to Postgres.
        run_id: The run.
        visits: The numbers of the visits, by node.
    """
    rows = await pool.fetch(_BEFORE_SKIP, run_id, list(visits), list(visits.values()))
    return {row["node_id"]: _settled_state(run_id, row) for row in rows}


def _settled_state(run_id: str, row: Any) -> NodeState:
    body = {**row["body"], "values": [row["input"], row["output"]]}
    change = data_of(EventType.NODE_STATE, row["node_id"], body, run_id, row["seq"], row["at"])
    assert isinstance(change, NodeChange)
    return change.state


def _value_of(row: Any, outputs: dict[str, Any]) -> Any:
    value = unpack_write(row["channel"], row["value"])
    return _with_outputs(value, outputs) if row["channel"] == NODE_RECORDS else value


def _with_outputs(records: dict[str, NodeRecord], outputs: dict[str, Any]) -> dict[str, NodeRecord]:
    return {node_id: record.evolve(output=outputs.get(node_id)) for node_id, record in records.items()}


def checkpoint_id(graph_id: str) -> str:
    """Convert LangGraph's id of a checkpoint to ours: the same UUID, as a TypeID."""
    return str(TypeID.from_uuid(UUID(graph_id), prefix="ckp"))


def graph_id(id_: str) -> str:
    """Convert our id of a checkpoint to LangGraph's."""
    return str(TypeID.from_string(id_).uuid)


def config_of(run_id: str, graph_id_: str) -> RunnableConfig:
    """Make the config by which LangGraph names a checkpoint."""
    return {"configurable": {"thread_id": run_id, "checkpoint_ns": "", "checkpoint_id": graph_id_}}


_LOAD = """
WITH wanted AS (
    SELECT max(seq) AS seq FROM checkpoints
    WHERE run_id = $1 AND CASE WHEN $2::text IS NULL THEN superseded_seq IS NULL ELSE id = $2 END
), lineage AS (
    SELECT c.* FROM checkpoints c, wanted
    WHERE run_id = $1 AND c.seq <= wanted.seq AND (superseded_seq IS NULL OR superseded_seq > wanted.seq)
), base AS (
    SELECT max(seq) AS seq FROM lineage WHERE is_full
)
SELECT id, parent_id, s.seq, data, steps FROM lineage s, base WHERE s.seq >= base.seq ORDER BY s.seq
"""
"""The head is the newest checkpoint that no rewind superseded. Any other checkpoint is read as it
was when it was saved."""
_OUTPUTS = """
SELECT DISTINCT ON (node_id) node_id, output FROM node_outputs
WHERE run_id = $1 AND output IS NOT NULL AND CASE WHEN $2::int IS NULL THEN superseded_seq IS NULL
    ELSE seq <= $2 AND (superseded_seq IS NULL OR superseded_seq > $2) END
ORDER BY node_id, seq DESC
"""
_STATES = f"""
SELECT {", ".join(f"s.{column}" for column in NODE_STATE_ROW)}, o.input
FROM node_states s JOIN unnest($2::text[], $3::int[]) AS v(node_id, visits)
    ON v.node_id = s.node_id AND s.visits <= v.visits
LEFT JOIN node_outputs o ON o.run_id = $1 AND o.seq = s.output_seq AND s.output_seq = s.seq
WHERE s.run_id = $1
"""
_BEFORE_SKIP = """
SELECT DISTINCT ON (o.node_id) o.node_id, o.seq, o.input, o.output, e.at, e.body
FROM node_outputs o JOIN unnest($2::text[], $3::int[]) AS v(node_id, visit)
    ON v.node_id = o.node_id AND v.visit = o.visit
JOIN events e ON e.run_id = $1 AND e.seq = o.seq
WHERE o.run_id = $1
ORDER BY o.node_id, o.seq DESC
"""
_WRITES = """
SELECT task_id, channel, value FROM pending_writes WHERE run_id = $1 AND checkpoint_id = $2 ORDER BY idx
"""
