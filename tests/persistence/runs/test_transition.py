"""Status changes of many runs at once: events in order, states as written, and all or nothing."""

import asyncio
from typing import Any

import asyncpg
import pytest

from engine.events import NodeChange, NodeState, StatusChange
from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.problems import NotFound
from persistence.runs.run import Run
from persistence.runs.transition import change_status, change_statuses, finish, finish_all, lock_run
from tests.journal_worker import JournalWorker, accept_run

S = RunStatus
ERROR = {"code": "TEST", "message": "it broke"}


async def events_of(database: Database, run_id: str) -> list[tuple[int, str, str | None]]:
    rows = await database.pool.fetch(
        "SELECT seq, type, node_id FROM events WHERE run_id = $1 AND seq > 1 ORDER BY seq", run_id
    )
    return [(row["seq"], row["type"], row["node_id"]) for row in rows]


async def rows_of(database: Database, columns: str, run_id: str) -> list[tuple[Any, ...]]:
    table = "node_states" if "node_id" in columns else "runs"
    key = "run_id" if table == "node_states" else "id"
    rows = await database.pool.fetch(f"SELECT {columns} FROM {table} WHERE {key} = $1 ORDER BY 1", run_id)
    return [tuple(row) for row in rows]


def node(run: Run, node_id: str, **values: Any) -> NodeChange:
    return NodeChange(NodeState(run.id, node_id, NodeStatus.COMPLETED, visits=1, **values))


async def test_several_runs_change_together_each_with_the_events_of_its_nodes_first(
    database: Database, caller: Caller, project: str
) -> None:
    first, second = [(await accept_run(database, caller, project)).run for _ in range(2)]
    before = {second.id: [node(second, "a", output_seq=1), node(second, "b")]}
    async with database.begin() as connection:
        results = await change_statuses(
            connection, [first, second], S.CANCELLED, "No more", before, worker_id="the last worker"
        )
    assert await events_of(database, first.id) == [(2, "RUN_STATUS", None)]
    assert await events_of(database, second.id) == [
        (2, "NODE_STATE", "a"),
        (3, "NODE_STATE", "b"),
        (4, "RUN_STATUS", None),
    ]
    assert await rows_of(database, "node_id, status, seq, output_seq", second.id) == [
        ("a", "COMPLETED", 1, 1),
        ("b", "COMPLETED", 3, None),
    ]
    for run, result, last in zip((first, second), results, (2, 4), strict=True):
        assert await rows_of(database, "status, status_message, last_seq, worker_id", run.id) == [
            ("CANCELLED", "No more", last, "the last worker")
        ]
        assert (result.run.id, result.run.status, result.run.last_seq) == (run.id, S.CANCELLED, last)
        assert [event.seq for event in result.events] == list(range(2, last + 1))
        assert result.events[-1].data == StatusChange(S.CANCELLED, S.QUEUED, "No more")
        assert (result.transitions[0].project_id, result.transitions[0].run_id) == (project, run.id)


async def test_a_change_that_the_state_machine_does_not_have_changes_no_run(
    database: Database, caller: Caller, project: str
) -> None:
    queued, ended = [(await accept_run(database, caller, project)).run for _ in range(2)]
    async with database.begin() as connection:
        ended = (await finish(connection, ended, StatusChange(S.CANCELLED, S.QUEUED, ""))).run
    with pytest.raises(ValueError, match="a run that is CANCELLED cannot become RUNNING"):
        async with database.begin() as connection:
            await change_statuses(connection, [queued, ended], S.RUNNING, "", {})
    assert await rows_of(database, "status, last_seq", queued.id) == [("QUEUED", 1)]


async def test_a_lock_is_on_the_run_with_this_id_only(database: Database, caller: Caller, project: str) -> None:
    accepted = [(await accept_run(database, caller, project)).run for _ in range(3)]
    for run in accepted:
        async with database.begin() as connection:
            assert (await lock_run(connection, caller, run.id)).id == run.id
            free = await database.pool.fetch("SELECT id FROM runs ORDER BY id FOR NO KEY UPDATE SKIP LOCKED")
        assert [row["id"] for row in free] == sorted(other.id for other in accepted if other is not run)


@pytest.mark.parametrize("status", [S.RUNNING, S.CANCELLING])
async def test_a_run_that_has_changed_since_it_was_read_is_not_changed(
    database: Database, run: Run, status: RunStatus
) -> None:
    await database.pool.execute("UPDATE runs SET status = $2 WHERE id = $1", run.id, status)
    with pytest.raises(KeyError):
        async with database.begin() as connection:
            await change_status(connection, run, StatusChange(S.CANCELLED, S.QUEUED, "Too late"))
    assert await rows_of(database, "status, last_seq", run.id) == [(status, 1)]


async def test_a_run_that_is_locked_is_changed_by_the_second_caller_after_the_first_has_committed(
    database: Database, caller: Caller, run: Run
) -> None:
    is_locked = asyncio.Event()

    async def second() -> Run:
        await is_locked.wait()
        async with database.begin() as connection:
            return await lock_run(connection, caller, run.id)

    waiting = asyncio.create_task(second())
    async with database.begin() as connection:
        locked = await lock_run(connection, caller, run.id)
        is_locked.set()
        with pytest.raises(asyncpg.LockNotAvailableError):
            await database.pool.fetch("SELECT FROM runs WHERE id = $1 FOR NO KEY UPDATE NOWAIT", run.id)
        # An idempotency key may refer to the run meanwhile.
        assert await database.pool.fetch("SELECT FROM runs WHERE id = $1 FOR KEY SHARE NOWAIT", run.id)
        await change_status(connection, locked, StatusChange(S.CANCELLED, S.QUEUED, "First"))
    assert (await waiting).status is S.CANCELLED


async def test_a_run_of_another_project_is_not_found(database: Database, run: Run) -> None:
    stranger = Caller("stranger", {"prj_other": Role.ADMIN})
    async with database.begin() as connection:
        with pytest.raises(NotFound):
            await lock_run(connection, stranger, run.id)


@pytest.mark.parametrize(("status", "idle"), [(S.CANCELLED, "CANCELLED"), (S.FAILED, None)])
async def test_a_run_that_ends_has_no_lease_no_running_node_and_no_open_wait(
    database: Database, worker: JournalWorker, caller: Caller, run: Run, status: RunStatus, idle: str | None
) -> None:
    held = await worker.claim(run)
    await held.node("a", NodeStatus.RUNNING, visits=1)
    for number, (settled, superseded) in enumerate([(None, None), (2, None), (None, 1)]):
        await database.pool.execute(
            """INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, settled_seq, superseded_seq)
            VALUES ($1, $2, 'a', 1, 0, 3, 'INPUT', $3, $4)""",
            f"wait_{number}",
            run.id,
            settled,
            superseded,
        )
    if status is S.CANCELLED:
        await database.pool.execute("UPDATE runs SET status = 'CANCELLING' WHERE id = $1", run.id)
    async with database.begin() as connection:
        locked = await lock_run(connection, caller, run.id)
        [result] = await finish_all(connection, [locked], status, "Over", error=ERROR)
    states = dict(await rows_of(database, "node_id, status", run.id))
    assert (states["a"], states.get("b")) == ("CANCELLED", idle)
    last = result.run.last_seq
    assert last == (6 if idle else 5)
    waits = await database.pool.fetch("SELECT settled_seq, superseded_seq FROM waits ORDER BY id")
    assert [tuple(row) for row in waits] == [(None, last), (2, None), (None, 1)]
    columns = "status, epoch, worker_id, lease_until, deadline_at, error, finished_at IS NOT NULL"
    [row] = await rows_of(database, columns, run.id)
    assert row == (status, held.epoch + 1, None, None, None, ERROR, True)
