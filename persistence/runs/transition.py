"""Status changes of runs in a transaction of the caller.

The runs are locked and checked; then status, events and node states are written. Servers and
recovery change runs with it; workers do by the journal. The lock is the journal's own, so of two
concurrent changes the second one waits for the first one's commit and then sees its result. A crash
leaves all of a change or nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, FromClause, Integer, RowMapping, Select, Text, cast, column, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.events import Event, EventData, NodeChange, NodeState, StatusChange
from engine.states import RunStatus, check_transition
from persistence.caller import Caller
from persistence.db.tables import events, node_states, runs, waits
from persistence.events import codec
from persistence.events.run_transition import RunEnd, RunTransition
from persistence.problems import NotFound
from persistence.runs import node_states as nodes
from persistence.runs.run import RUN_COLUMNS, CommandResult, Run, run_of


async def lock_run(connection: AsyncConnection, caller: Caller, run_id: str) -> Run:
    """Read a run and lock it until the transaction ends.

    Raises NotFound if the caller may not see it.
    """
    query = select(*RUN_COLUMNS).where(runs.c.id == run_id, runs.c.project_id.in_(caller.projects))
    row = (await connection.execute(for_no_key_update(query))).mappings().one_or_none()
    if row is None:
        raise NotFound(run_id)
    return run_of(row)


def for_no_key_update(query: Select[Any]) -> Select[Any]:
    """Lock the rows of a query as an UPDATE of other columns than the key does (FOR NO KEY UPDATE).

    FOR UPDATE would also wait for transactions that inserted a reference to the run, such as an
    idempotency key: two calls with different keys would wait for each other.
    """
    return query.with_for_update(key_share=True)


async def change_status(
    connection: AsyncConnection, run: Run, change: StatusChange, *before: NodeChange, **values: Any
) -> CommandResult:
    """Change the status of one run that this transaction has locked.

    Args:
        run: The run as it was read under the lock.
        change: Its event, which follows the events of `before`.
        before: Node states that are written first.
        values: Further columns of `runs`, by name.
    """
    [result] = await change_statuses(connection, [run], change.status, change.message, {run.id: before}, **values)
    return result


async def change_statuses(
    connection: AsyncConnection,
    moving: Sequence[Run],
    status: RunStatus,
    message: str,
    before: Mapping[str, Sequence[NodeChange]],
    **values: Any,
) -> list[CommandResult]:
    """Change the status of any number of locked runs in four statements.

    Args:
        moving: The runs as they were read under the lock.
        status: The new status of all of them.
        message: The message of the status events.
        before: Node states that are written first, by run id.
        values: Further columns of `runs`, by name.

    Raises:
        ValueError: The state machine has no such transition.
    """
    for run in moving:
        check_transition(run.status, status)
    locked = _locked(moving, before)
    updated = await connection.execute(
        update(runs)
        .where(runs.c.id == locked.c.id, runs.c.status == locked.c.status)
        .values(status=status, status_message=message, last_seq=runs.c.last_seq + locked.c.count, **values)
        .returning(*RUN_COLUMNS, func.now().label("at"))
    )
    rows = {row["id"]: row for row in updated.mappings()}
    results = [_result(run, rows[run.id], message, before.get(run.id, ())) for run in moving]
    written = [event for result in results for event in result.events]
    await connection.execute(insert(events), [_row(event) for event in written])
    await _write_states(connection, written)
    return results


def _locked(moving: Sequence[Run], before: Mapping[str, Sequence[NodeChange]]) -> FromClause:
    """Make a relation of (id, present status, number of new events) of the runs."""
    ids, statuses = [run.id for run in moving], [run.status.value for run in moving]
    counts = [len(before.get(run.id, ())) + 1 for run in moving]
    arrays = cast(ids, ARRAY(Text)), cast(statuses, ARRAY(Text)), cast(counts, ARRAY(Integer))
    columns = column("id", Text), column("status", Text), column("count", Integer)
    return func.unnest(*arrays).table_valued(*columns, name="locked").render_derived()


def _result(run: Run, row: RowMapping, message: str, before: Sequence[NodeChange]) -> CommandResult:
    after = run_of(row)
    change = StatusChange(after.status, run.status, message)
    events_to_write: list[EventData] = [*before, change]
    numbered = enumerate(events_to_write, start=run.last_seq + 1)
    written = tuple(Event(run.id, seq, row["at"], data) for seq, data in numbered)
    return CommandResult(after, (RunTransition.of(run.project_id, run.id, change, written, _end_of(after)),))


def _end_of(run: Run) -> RunEnd | None:
    """Return how the run ended; None if it has not."""
    if run.finished_at is None:
        return None
    duration_s = None if run.started_at is None else (run.finished_at - run.started_at).total_seconds()
    code = None if run.error is None else run.error.code
    return RunEnd(run.workflow_id, run.source.value, code, run.attempt, duration_s)


async def finish(connection: AsyncConnection, run: Run, change: StatusChange, **values: Any) -> CommandResult:
    """Give one run a terminal status; see `finish_all`."""
    [result] = await finish_all(connection, [run], change.status, change.message, **values)
    return result


async def finish_all(
    connection: AsyncConnection, ending: Sequence[Run], status: RunStatus, message: str, **values: Any
) -> list[CommandResult]:
    """Give runs whose code does not run any more a terminal status.

    Their unfinished nodes become CANCELLED, their open waits are superseded, and their leases end
    with a new epoch, so that no earlier holder can write to them. The nodes of a cancelled run that
    have not started become CANCELLED as well.
    """
    run_ids = [run.id for run in ending]
    with_idle = status is RunStatus.CANCELLED
    unfinished = await nodes.unfinished_of_runs(connection, run_ids, with_idle=with_idle)
    before = {
        run_id: [NodeChange(nodes.as_cancelled(state)) for state in states] for run_id, states in unfinished.items()
    }
    released = {"epoch": runs.c.epoch + 1, "worker_id": None, "lease_until": None, "deadline_at": None}
    columns = {**released, "finished_at": func.now(), **values}
    results = await change_statuses(connection, ending, status, message, before, **columns)
    open_waits = (waits.c.run_id.in_(run_ids), waits.c.settled_seq.is_(None), waits.c.superseded_seq.is_(None))
    last = select(runs.c.last_seq).where(runs.c.id == waits.c.run_id).scalar_subquery()
    await connection.execute(update(waits).where(*open_waits).values(superseded_seq=last))
    return results


async def _write_states(connection: AsyncConnection, written: Sequence[Event]) -> None:
    rows = [_state_row(event.data.state, event.seq) for event in written if isinstance(event.data, NodeChange)]
    if not rows:
        return
    query = upsert(node_states)
    columns = {name: query.excluded[name] for name in rows[0] if name not in ("run_id", "node_id")}
    # One statement executed for many rows: a single VALUES list would exceed the arguments that
    # Postgres accepts, for a graph of 3,000 nodes.
    await connection.execute(query.on_conflict_do_update(index_elements=["run_id", "node_id"], set_=columns), rows)


def _state_row(state: NodeState, seq: int) -> dict[str, Any]:
    # A restored state keeps the number under which its values are stored.
    return codec.node_state_row(state, seq if state.output_seq is None else state.output_seq, state.output_seq)


def _row(event: Event) -> dict[str, Any]:
    data = event.data
    return {
        "run_id": event.run_id,
        "seq": event.seq,
        "type": data.type,
        "at": event.at,
        "node_id": data.node_id,
        "body": codec.body_of(data, event.at),
    }
