"""Rewinds a paused run to an earlier checkpoint, in a new lineage.

One transaction: a crash leaves all of it or nothing.

Nodes that finished before the checkpoint keep their results. Everything after it is superseded, and
the nodes run again with new idempotency keys.
"""

from dataclasses import replace

from sqlalchemy import and_, delete, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import NodeChange, NodeState, StatusChange
from engine.states import NodeStatus, RunStatus, progress_of
from persistence.caller import Caller
from persistence.checkpoints.split import split_row
from persistence.db.tables import checkpoints, node_outputs, pending_writes, runs, waits
from persistence.events import history
from persistence.events.history import Checkpoint
from persistence.problems import EXPIRED_CHECKPOINT, Conflict, NotFound, invalid
from persistence.runs import node_states
from persistence.runs.commands import lock_paused, resume_columns
from persistence.runs.run import CommandResult, Run
from persistence.runs.transition import change_status
from persistence.threads import thread as threads


async def rewind(
    connection: AsyncConnection, caller: Caller, run_id: str, checkpoint_id: str, *, step: bool = False
) -> CommandResult:
    """Queue a PAUSED run from a checkpoint; with `step` it pauses again after one step.

    Raises:
        NotFound: The caller may see no such run or checkpoint.
        Invalid: The checkpoint is of another run.
        Conflict: An earlier rewind superseded the checkpoint.
        InvalidState: The run is not PAUSED.
    """
    run = await lock_paused(connection, caller, run_id)
    checkpoint = await _checkpoint(connection, caller, run, checkpoint_id)
    if checkpoint.is_derived:
        await split_row(connection, checkpoint)
    before = await _restored(connection, caller, run, checkpoint)
    result = await change_status(
        connection,
        run,
        StatusChange(RunStatus.QUEUED, run.status, f"Rewound to {checkpoint_id}"),
        *(NodeChange(state) for state in before),
        **{**resume_columns(run, step=step), "resumed_step": checkpoint.step},
        lineage=runs.c.lineage + 1,
        progress=await _progress(connection, caller, checkpoint),
    )
    await _supersede(connection, run.id, checkpoint.seq, result.run.last_seq)
    return result


async def _checkpoint(connection: AsyncConnection, caller: Caller, run: Run, checkpoint_id: str) -> Checkpoint:
    checkpoint = (await history.checkpoints_by_id(connection, caller, [checkpoint_id])).get(checkpoint_id)
    if checkpoint is None:
        raise NotFound(checkpoint_id, EXPIRED_CHECKPOINT)
    if checkpoint.run_id != run.id:
        raise invalid("input.checkpointId", "OTHER_RUN", f"is a checkpoint of {checkpoint.run_id}, not of this run")
    if checkpoint.superseded_seq is not None:
        raise Conflict("An earlier rewind superseded this checkpoint; fork from it instead.")
    return checkpoint


async def _restored(connection: AsyncConnection, caller: Caller, run: Run, checkpoint: Checkpoint) -> list[NodeState]:
    """Return the state at the checkpoint of each node whose present state differs."""
    place = (run.id, checkpoint.seq)
    then = {state.node_id: state for state in (await node_states.states_at(connection, caller, [place]))[place]}
    now = (await node_states.states(connection, caller, [run.id]))[run.id]
    return [_stopped(then[state.node_id]) for state in now if not _is_same(state, then[state.node_id])]


def _is_same(one: NodeState, other: NodeState) -> bool:
    return (one.status, one.visits, one.output_seq) == (other.status, other.visits, other.output_seq)


def _stopped(state: NodeState) -> NodeState:
    """Return the state as not running. A node that ran at the checkpoint runs again later.

    A node that was RETRYING continues with its next attempt: when its wait ends, or at once if the
    wait had ended after the checkpoint.
    """
    if state.status is NodeStatus.RUNNING:
        return replace(state, status=NodeStatus.IDLE, message="Rewound; runs again", progress=0.0, started_at=None)
    return state


async def _progress(connection: AsyncConnection, caller: Caller, checkpoint: Checkpoint) -> float:
    place = (checkpoint.run_id, checkpoint.seq)
    then = (await node_states.states_at(connection, caller, [place]))[place]
    return progress_of((state.status for state in then), len(then))


async def _supersede(connection: AsyncConnection, run_id: str, since: int, by: int) -> None:
    """Supersede everything after the event `since` by the event `by`."""
    for table in (checkpoints, node_outputs):
        is_later = and_(table.c.run_id == run_id, table.c.seq > since, table.c.superseded_seq.is_(None))
        await connection.execute(update(table).where(is_later).values(superseded_seq=by))
    await threads.remove_after(connection, run_id, since)
    await connection.execute(delete(pending_writes).where(pending_writes.c.run_id == run_id))
    # An earlier question keeps an answer that its node has not received yet.
    is_opened_later = and_(waits.c.run_id == run_id, waits.c.seq > since, waits.c.superseded_seq.is_(None))
    await connection.execute(update(waits).where(is_opened_later).values(superseded_seq=by))
    is_settled_later = and_(waits.c.run_id == run_id, waits.c.settled_seq > since, waits.c.superseded_seq.is_(None))
    await connection.execute(update(waits).where(is_settled_later).values(superseded_seq=by))
