"""Stores the checkpoints that are derived from the steps of a row as rows of their own.

A rewind to one of them does this first: it supersedes what came after the checkpoint, and one row
cannot be superseded in part. One transaction, in which the caller has locked the run. A crash leaves
the row as it was. Ids, event numbers and states of the checkpoints stay the same.
"""

from typing import Any

from langgraph.constants import TASKS
from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.graph.head import head_checkpoint
from persistence.checkpoints.codec import CheckpointDelta, apply_step, fold, pack
from persistence.checkpoints.loader import graph_id
from persistence.checkpoints.snapshots import StoredDelta, read_deltas, values_before
from persistence.db.tables import checkpoints
from persistence.events.history import Checkpoint, checkpoint_rows, checkpoints_of_row


async def split_row(connection: AsyncConnection, checkpoint: Checkpoint) -> None:
    """Store all checkpoints of the row of a derived checkpoint as rows of their own."""
    run_id, seq = checkpoint.run_id, checkpoint.stored_seq
    is_row = (checkpoints.c.run_id == run_id, checkpoints.c.seq == seq)
    row = (await connection.execute(checkpoint_rows().where(*is_row))).mappings().one()
    stored = await read_deltas(connection, run_id, seq, is_derived=True)
    last, *derived = checkpoints_of_row(row)
    await connection.execute(insert(checkpoints), _rows(stored, derived[::-1]))
    whole = await read_deltas(connection, run_id, seq)
    await connection.execute(
        update(checkpoints)
        .where(*is_row)
        .values(steps=None, is_full=True, data=pack(_full(whole)), parent_id=last.parent_id)
    )


def _rows(stored: list[StoredDelta], derived: list[Checkpoint]) -> list[dict[str, Any]]:
    """Make a full row for each derived checkpoint, oldest first."""
    values, rows = values_before(stored), []
    for checkpoint, step in zip(derived, stored[-1].delta.steps, strict=True):
        apply_step(values, step)
        head = head_checkpoint(checkpoint.step, values.get(TASKS, ()))
        metadata = {"source": "update", "step": checkpoint.step, "parents": {}}
        versions = {name: int(version) for name, version in head["channel_versions"].items()}
        delta = CheckpointDelta(
            graph_id(checkpoint.id), head["ts"], dict(values), versions, {}, [], None, metadata, v=head["v"]
        )
        names = ("id", "run_id", "parent_id", "seq", "step", "lineage", "next_nodes", "created_at", "superseded_seq")
        row = {name: getattr(checkpoint, name) for name in names}
        rows.append({**row, "is_full": True, "data": pack(delta)})
    return rows


def _full(stored: list[StoredDelta]) -> CheckpointDelta:
    """Return the last row as a full checkpoint without steps."""
    checkpoint, metadata = fold([one.delta for one in stored])
    return CheckpointDelta.between(None, checkpoint, metadata, checkpoint["channel_versions"])
