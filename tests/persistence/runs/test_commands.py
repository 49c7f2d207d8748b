"""Commands on runs and their rows: cancel, pause, resume, answer; one run or a workflow."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.db.ids import new_id
from persistence.events.run_transition import RunTransition
from persistence.problems import Conflict, InvalidState
from persistence.runs import commands, node_states, waits
from persistence.runs.run import CommandResult, Run
from persistence.workflows import workflows
from persistence.workflows.drafts import Content
from tests.journal_worker import SPEC, JournalWorker, accept_run
from tests.statement_counter import count_statements

S = RunStatus


async def set_status(database: Database, run_id: str, status: RunStatus, **columns: str) -> None:
    """Set the status of a run directly; `columns` are SQL expressions."""
    more = "".join(f", {name} = {value}" for name, value in columns.items())
    await database.pool.execute(f"UPDATE runs SET status = $2{more} WHERE id = $1", run_id, status)


async def insert_question(database: Database, run_id: str, seq: int = 1, until: str = "NULL") -> str:
    """Insert an open question of the run; `until` is a SQL expression."""
    wait_id = new_id("wait")
    await database.pool.execute(
        f"""INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, until, prompt)
        VALUES ($1, $2, 'a', 1, 0, $3, 'INPUT', {until}, $4)""",
        wait_id,
        run_id,
        seq,
        "Well?",
    )
    return wait_id


async def row_of(database: Database, run_id: str) -> Any:
    return await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", run_id)


def events_of(changed: CommandResult | RunTransition) -> list[tuple[int, str]]:
    return [(event.seq, event.data.type.value) for event in changed.events]


async def test_a_cancelled_run_has_no_running_node_and_no_open_wait(
    database: Database, caller: Caller, worker: JournalWorker, run: Run
) -> None:
    held = await worker.claim(run)
    await held.node("a", NodeStatus.WAITING, visits=1)
    await held.node("b", NodeStatus.COMPLETED, visits=1, output=1, has_output=True)
    await insert_question(database, run.id)
    await set_status(database, run.id, S.WAITING)
    async with database.begin() as connection:
        changed = await commands.cancel(connection, caller, run.id, "enough", database.deadlines)
    async with database.connect() as connection:
        states = (await node_states.states(connection, caller, [run.id]))[run.id]
        assert (await waits.of_runs(connection, caller, [run.id]))[run.id] == []
    assert [state.status for state in states] == [NodeStatus.CANCELLED, NodeStatus.COMPLETED]
    assert events_of(changed) == [(5, "NODE_STATE"), (6, "RUN_STATUS")]
    assert await database.pool.fetchval("SELECT superseded_seq FROM waits WHERE run_id = $1", run.id) == 6


async def test_a_cancel_finishes_thousands_of_nodes_at_once(database: Database, caller: Caller, run: Run) -> None:
    await database.pool.execute(
        """INSERT INTO node_states (run_id, node_id, status, visits, attempt, progress, seq)
        SELECT $1, 'n' || i, 'WAITING', 1, 1, 0, 1 FROM generate_series(1, 4000) i""",
        run.id,
    )
    async with database.begin() as connection:
        changed = await commands.cancel(connection, caller, run.id, None, database.deadlines)
    assert len(events_of(changed)) == 4003  # With the two nodes of the spec, which have not started.
    unfinished = "SELECT count(*) FROM node_states WHERE run_id = $1 AND status <> 'CANCELLED'"
    assert await database.pool.fetchval(unfinished, run.id) == 0


async def test_a_paused_run_whose_worker_was_lost_has_no_running_node(
    database: Database, caller: Caller, worker: JournalWorker, run: Run
) -> None:
    held = await worker.claim(run)
    await held.node("a", NodeStatus.RUNNING, visits=1)
    await held.node("b", NodeStatus.WAITING, visits=1)
    await set_status(database, run.id, S.QUEUED)
    async with database.begin() as connection:
        changed = await commands.pause(connection, caller, run.id, database.deadlines)
    async with database.connect() as connection:
        states = (await node_states.states(connection, caller, [run.id]))[run.id]
    assert [state.status for state in states] == [NodeStatus.IDLE, NodeStatus.WAITING]
    assert events_of(changed) == [(5, "NODE_STATE"), (6, "RUN_STATUS")]


async def test_a_repeated_pause_is_written_once(
    database: Database, caller: Caller, worker: JournalWorker, run: Run
) -> None:
    await worker.claim(run)
    async with database.begin() as connection:
        first = await commands.pause(connection, caller, run.id, database.deadlines)
        again = await commands.pause(connection, caller, run.id, database.deadlines)
    assert [transition.status for transition in first.transitions] == [S.PAUSING]
    assert again.transitions == ()
    assert (again.run.status, again.run.last_seq) == (S.PAUSING, first.run.last_seq)
    assert again.run.deadline_at == first.run.deadline_at


async def test_a_resume_extends_the_timeout_by_the_time_of_the_pause(
    database: Database, caller: Caller, run: Run
) -> None:
    ago = "now() - interval '3 hours'"
    await set_status(database, run.id, S.PAUSED, paused_at=ago, timeout_at=f"{ago} + interval '50 seconds'")
    async with database.begin() as connection:
        await commands.resume(connection, caller, run.id)
    timeout = await database.pool.fetchval("SELECT timeout_at - queued_at FROM runs WHERE id = $1", run.id)
    assert timeout.total_seconds() == 50


async def test_a_resume_stores_the_step_that_it_starts_from(
    database: Database, caller: Caller, worker: JournalWorker, run: Run
) -> None:
    held = await worker.claim(run)
    await set_status(database, run.id, S.PAUSED)
    async with database.begin() as connection:
        await commands.resume(connection, caller, run.id)
    row = await row_of(database, run.id)
    assert (row["resumed_step"], row["is_step"], row["takeup"], row["deadline_at"]) == (-1, False, 2, None)
    await set_status(database, run.id, S.RUNNING)
    await held.checkpoint(new_id("ckp"), step=4, next_nodes=["b"])
    await set_status(database, run.id, S.PAUSED)
    async with database.begin() as connection:
        await commands.resume(connection, caller, run.id, step=True)
    row = await row_of(database, run.id)
    assert (row["resumed_step"], row["is_step"]) == (4, True)


async def test_setting_breakpoints_keeps_all_other_options(database: Database, caller: Caller, run: Run) -> None:
    options = '{"timeoutS": 7, "breakpoints": ["a"], "stepwise": true, "ofALaterVersion": {"x": [1]}}'
    await database.pool.execute("UPDATE runs SET options = $2::text::json, priority = 3 WHERE id = $1", run.id, options)
    async with database.begin() as connection:
        changed = await commands.set_breakpoints(connection, caller, run.id, ["b"])
    assert (changed.options.timeout_s, changed.options.stepwise, changed.options.priority) == (7, True, 3)
    assert changed.options.breakpoints == ("b",)
    assert changed.last_seq == run.last_seq
    stored = json.loads(await database.pool.fetchval("SELECT options::text FROM runs WHERE id = $1", run.id))
    assert stored == {"timeoutS": 7, "breakpoints": ["b"], "stepwise": True, "ofALaterVersion": {"x": [1]}}


async def answer(database: Database, caller: Caller, run_id: str, wait_id: str, value: Any = "yes") -> CommandResult:
    async with database.begin() as connection:
        return await waits.answer(connection, caller, run_id, wait_id, value)


async def test_an_answer_queues_a_waiting_run_and_stores_its_author(
    database: Database, caller: Caller, run: Run
) -> None:
    wait_id = await insert_question(database, run.id)
    await set_status(database, run.id, S.WAITING, deadline_at="now()")
    changed = await answer(database, caller, run.id, wait_id, None)
    row = await row_of(database, run.id)
    wait = await database.pool.fetchrow("SELECT * FROM waits WHERE id = $1", wait_id)
    assert events_of(changed) == [(2, "RUN_STATUS")]
    assert (row["status"], row["takeup"], row["deadline_at"]) == ("QUEUED", 2, None)
    assert (wait["answer"], wait["answered_by"], wait["settled_seq"]) == (None, caller.subject, None)
    with pytest.raises(Conflict):
        await answer(database, caller, run.id, wait_id)


@pytest.mark.parametrize("status", [S.QUEUED, S.RUNNING, S.PAUSING, S.PAUSED])
async def test_an_answer_to_a_run_that_is_not_waiting_is_stored_for_its_next_worker(
    database: Database, caller: Caller, run: Run, status: RunStatus
) -> None:
    wait_id = await insert_question(database, run.id)
    await set_status(database, run.id, status)
    changed = await answer(database, caller, run.id, wait_id)
    row = await row_of(database, run.id)
    assert changed.transitions == ()
    assert (row["status"], row["last_seq"], row["wake_at"] is not None) == (status, 1, True)
    [open_wait] = await waits.open_waits(database.pool, run.id)
    assert (open_wait.is_answered, open_wait.answer) == (True, "yes")


async def test_an_answer_after_expiry_is_refused_before_a_worker_settles_the_question(
    database: Database, caller: Caller, run: Run
) -> None:
    late = await insert_question(database, run.id, until="now() - interval '1 second'")
    early = await insert_question(database, run.id, until="now() + interval '1 hour'")
    await set_status(database, run.id, S.WAITING)
    with pytest.raises(Conflict):
        await answer(database, caller, run.id, late)
    async with database.connect() as connection:
        open_waits = (await waits.of_runs(connection, caller, [run.id]))[run.id]
    assert [wait.id for wait in open_waits] == [early]


@pytest.mark.parametrize("step", [False, True])
async def test_a_resume_of_a_waiting_run_says_how_to_answer(
    database: Database, caller: Caller, run: Run, step: bool
) -> None:
    await insert_question(database, run.id)
    await set_status(database, run.id, S.WAITING)
    with pytest.raises(InvalidState, match=r"`resumeRun` with `answer` and a `waitId` of `Run\.waits`"):
        async with database.begin() as connection:
            await commands.resume(connection, caller, run.id, step=step)


async def test_a_cancelling_run_accepts_no_answer(database: Database, caller: Caller, run: Run) -> None:
    wait_id = await insert_question(database, run.id)
    await set_status(database, run.id, S.CANCELLING)
    with pytest.raises(InvalidState):
        await answer(database, caller, run.id, wait_id)


async def create_workflow_with_runs(database: Database, caller: Caller, project: str, count: int) -> str:
    """Create a workflow with `count` runs in every status, with a waiting node and a question."""
    async with database.begin() as connection:
        workflow = await workflows.create(
            connection, caller, project, name="w", description="", content=Content(SPEC, "hash")
        )
    for status in S:
        for _ in range(count):
            run = (await accept_run(database, caller, project)).run
            await set_status(database, run.id, status, workflow_id=f"'{workflow.id}'")
            await insert_question(database, run.id)
    await database.pool.execute(
        """INSERT INTO node_states (run_id, node_id, status, visits, attempt, progress, seq)
        SELECT id, 'a', 'WAITING', 1, 1, 0, 1 FROM runs"""
    )
    return workflow.id


@pytest.mark.parametrize("count", [1, 5])
async def test_cancelling_many_runs_of_a_workflow_takes_as_many_statements_as_one(
    database: Database, caller: Caller, project: str, count: int
) -> None:
    other = (await accept_run(database, caller, project)).run
    workflow_id = await create_workflow_with_runs(database, caller, project, count)
    async with count_statements(database) as statements, database.begin() as connection:
        changes = await commands.cancel_all(connection, caller, workflow_id, "not needed", database.deadlines)
        assert await commands.cancel_all(connection, caller, workflow_id, "again", database.deadlines) == []
    assert len(statements) == 12
    cancelled = [changed for changed in changes if changed.status is S.CANCELLED]
    cancelling = [changed for changed in changes if changed.status is S.CANCELLING]
    assert {changed.previous for changed in cancelled} == {S.PENDING, S.QUEUED, S.PAUSED, S.WAITING}
    assert {changed.previous for changed in cancelling} == {S.RUNNING, S.PAUSING}
    assert (len(cancelled), len(cancelling)) == (4 * count, 2 * count)
    expected = [(2, "NODE_STATE"), (3, "NODE_STATE"), (4, "RUN_STATUS")]
    assert all(events_of(changed) == expected for changed in cancelled)
    assert all(events_of(changed) == [(2, "RUN_STATUS")] for changed in cancelling)
    stored = await database.pool.fetch("SELECT run_id, max(seq) AS seq FROM events GROUP BY run_id")
    seqs = {row["run_id"]: row["seq"] for row in stored}
    assert all(seqs[changed.run_id] == changed.events[-1].seq for changed in changes)
    closed = await database.pool.fetch("SELECT DISTINCT run_id FROM waits WHERE superseded_seq IS NOT NULL")
    assert {row["run_id"] for row in closed} == {changed.run_id for changed in cancelled}
    assert (await row_of(database, other.id))["status"] == "QUEUED"


async def test_every_cancel_of_a_held_run_sets_the_configured_deadline(
    database: Database, caller: Caller, project: str, worker: JournalWorker
) -> None:
    deadlines = replace(database.deadlines, cancelling=timedelta(seconds=33))
    held = [(await accept_run(database, caller, project)).run for _ in range(3)]
    for run in held:
        await worker.claim(run)
    async with database.begin() as connection:
        workflow = await workflows.create(
            connection, caller, project, name="w", description="", content=Content(SPEC, "hash")
        )
    await set_status(database, held[2].id, S.RUNNING, workflow_id=f"'{workflow.id}'")
    async with database.begin() as connection:
        await commands.cancel(connection, caller, held[0].id, None, deadlines)
        await commands.cancel_these(connection, [held[1].id], None, deadlines)
        await commands.cancel_all(connection, caller, workflow.id, None, deadlines)
    rows = await database.pool.fetch("SELECT status, deadline_at - cancel_requested_at AS time FROM runs")
    assert [tuple(row) for row in rows] == [("CANCELLING", timedelta(seconds=33))] * 3


async def test_a_caller_without_a_role_cancels_nothing(database: Database, caller: Caller, project: str) -> None:
    workflow_id = await create_workflow_with_runs(database, caller, project, 1)
    async with database.begin() as connection:
        assert await commands.cancel_all(connection, Caller("other", {}), workflow_id, "no", database.deadlines) == []


async def test_more_runs_than_fit_in_one_batch_are_all_cancelled(
    database: Database, caller: Caller, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Children of deleted parents: recovery would never find one that was left out."""
    monkeypatch.setattr(commands, "BATCH", 2)
    run_ids = [(await accept_run(database, caller, project)).run.id for _ in range(5)]
    async with database.begin() as connection:
        done = await commands.cancel_these(connection, run_ids, "no parent", database.deadlines)
    assert [changed.status for changed in done] == [S.CANCELLED] * 5


@pytest.mark.parametrize(
    ("creator", "starter", "left"),
    [
        (Role.ADMIN, Role.RUNNER, ["read", "run"]),
        (Role.RUNNER, Role.ADMIN, ["read", "run"]),
        (Role.EDITOR, Role.EDITOR, ["read", "run", "write"]),
    ],
)
async def test_a_run_that_another_caller_starts_has_the_scopes_of_both(
    database: Database, project: str, creator: Role, starter: Role, left: list[str]
) -> None:
    callers = [Caller(role.value, {project: role}) for role in (creator, starter)]
    run = (await accept_run(database, callers[0], project, start=False)).run
    async with database.begin() as connection:
        await commands.execute(connection, callers[1], run.id, {"n": 2}, replace=True)
    assert (await row_of(database, run.id))["scopes"] == left
