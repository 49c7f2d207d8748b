"""Every run mutation in every status follows the state machine or changes nothing."""

from typing import Any

import pytest
from redis.asyncio import Redis

from engine.states import RunStatus
from persistence.caller import Caller
from resolvers.context import Context
from tests.executor_worker import ExecutorWorker, accept_spec
from tests.journal_worker import JournalWorker
from tests.resolvers.runs_by_status import QUESTION, RUN, S, all_rows, in_status
from tests.schema_client import LINEAR, call, mutate

ALL = list(RunStatus)
TERMINAL = {S.COMPLETED, S.FAILED, S.CANCELLED}
OUTCOMES: dict[str, dict[RunStatus, RunStatus]] = {
    "executeRun": {S.PENDING: S.QUEUED},
    "cancelRun": {
        S.PENDING: S.CANCELLED,
        S.QUEUED: S.CANCELLED,
        S.RUNNING: S.CANCELLING,
        S.PAUSING: S.CANCELLING,
        S.PAUSED: S.CANCELLED,
        S.WAITING: S.CANCELLED,
        S.CANCELLING: S.CANCELLING,
    },
    "pauseRun": {
        S.QUEUED: S.PAUSED,
        S.RUNNING: S.PAUSING,
        S.PAUSING: S.PAUSING,
        S.PAUSED: S.PAUSED,
        S.WAITING: S.PAUSED,
    },
    "resumeRun": {S.PAUSED: S.QUEUED},
    "rewind": {S.PAUSED: S.QUEUED},
    "answer": {
        S.QUEUED: S.QUEUED,
        S.RUNNING: S.RUNNING,
        S.PAUSING: S.PAUSING,
        S.PAUSED: S.PAUSED,
        S.WAITING: S.QUEUED,
    },
    "stepRun": {S.PAUSED: S.QUEUED},
    "setBreakpoints": {status: status for status in ALL if status not in TERMINAL},
}
"""Mutation → status → the next status. Any other pair is refused."""
OFFERED = {
    "EXECUTE": "executeRun",
    "CANCEL": "cancelRun",
    "PAUSE": "pauseRun",
    "RESUME": "resumeRun",
    "STEP": "stepRun",
    "ANSWER": "answer",
}
ALREADY_REQUESTED = {("cancelRun", S.CANCELLING), ("pauseRun", S.PAUSING), ("pauseRun", S.PAUSED)}
"""Accepted, because the client may not know of the earlier request; but not offered."""


async def change(context: Context, name: str, run_id: str) -> dict[str, Any]:
    quick: dict[str, Any] = {"runId": run_id, "timeoutMs": 0}
    inputs: dict[str, tuple[str, dict[str, Any]]] = {
        "pauseRun": ("pauseRun", quick),
        "stepRun": ("stepRun", quick),
        "rewind": ("resumeRun", {"runId": run_id, "checkpointId": "ckp_" + run_id[4:]}),
        "answer": ("resumeRun", {"runId": run_id, "waitId": QUESTION, "answer": {"ok": True}}),
        "setBreakpoints": ("setBreakpoints", {"runId": run_id, "nodeIds": ["b"]}),
    }
    mutation, input = inputs.get(name, (name, {"runId": run_id}))
    return await mutate(context, mutation, RUN, **input)


@pytest.mark.parametrize("name", OUTCOMES)
async def test_a_mutation_follows_the_state_machine_in_each_status(
    context: Context, worker: JournalWorker, caller: Caller, project: str, name: str
) -> None:
    database = context.database
    for status in ALL:
        run_id = await in_status(database, worker, caller, project, status)
        before = await all_rows(database, run_id)
        payload = await change(context, name, run_id)
        status_after = await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", run_id)
        expected = OUTCOMES[name].get(status)
        if expected is None:
            assert payload["run"] is None, (name, status)
            [error] = payload["errors"]
            assert error["__typename"] == "InvalidStateProblem", (name, status)
            assert await all_rows(database, run_id) == before, (name, status)
        else:
            assert payload["errors"] == [], (name, status)
            assert (payload["run"]["status"], status_after) == (expected, expected), (name, status)
        await database.pool.execute("DELETE FROM runs WHERE id = $1", run_id)


DERIVED: dict[str, set[RunStatus]] = {
    "retryRun from START": TERMINAL,
    "retryRun from FAILED": {S.FAILED, S.CANCELLED},
    "forkRun": set(ALL),
}
"""Mutation → the statuses in which it creates a run. The original run never changes."""


@pytest.mark.parametrize("name", DERIVED)
async def test_a_run_is_derived_from_another_in_the_statuses_of_the_state_machine(
    context: Context, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    database = context.database
    run_id = await accept_spec(database, caller, project, LINEAR)
    async with ExecutorWorker(database, redis) as executor_worker:
        await (await executor_worker.claim(run_id)).run()
    checkpoint_id = await database.pool.fetchval("SELECT id FROM checkpoints WHERE run_id = $1 LIMIT 1", run_id)
    mutation, _, from_ = name.partition(" from ")
    input = {"runId": run_id, "from": from_} if from_ else {"checkpointId": checkpoint_id}
    for status in ALL:
        await database.pool.execute("UPDATE runs SET status = $2 WHERE id = $1", run_id, status)
        before = await all_rows(database, run_id)
        count = await database.pool.fetchval("SELECT count(*) FROM runs")
        payload = await mutate(context, mutation, RUN, **input)
        created = await database.pool.fetchval("SELECT count(*) FROM runs") - count
        if status in DERIVED[name]:
            assert (payload["errors"], payload["run"]["status"], created) == ([], "QUEUED", 1), (name, status)
        else:
            [error] = payload["errors"]
            assert (error["__typename"], error["runStatus"], created) == ("InvalidStateProblem", status, 0), (
                name,
                status,
            )
        assert await all_rows(database, run_id) == before, (name, status)


async def test_available_actions_are_those_that_are_accepted(
    context: Context, worker: JournalWorker, caller: Caller, project: str
) -> None:
    query = "query($id: ID!) { run(id: $id) { availableActions } }"
    for status in ALL:
        run_id = await in_status(context.database, worker, caller, project, status)
        offered = set((await call(context, query, id=run_id))["run"]["availableActions"])
        accepted = {action for action, name in OFFERED.items() if status in OUTCOMES[name]}
        accepted -= {action for action, name in OFFERED.items() if (name, status) in ALREADY_REQUESTED}
        assert offered & set(OFFERED) == accepted, status
        assert ("RETRY" in offered, "FORK" in offered) == (status in TERMINAL, True), status
        await context.database.pool.execute("UPDATE waits SET answered_at = now() WHERE run_id = $1", run_id)
        assert "ANSWER" not in (await call(context, query, id=run_id))["run"]["availableActions"]
        await context.database.pool.execute("DELETE FROM runs WHERE id = $1", run_id)


async def test_a_refusal_names_the_current_status(
    context: Context, worker: JournalWorker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.COMPLETED)
    for name in OUTCOMES:
        payload = await change(context, name, run_id)
        assert payload["errors"][0]["code"] == "INVALID_STATE"
        assert payload["errors"][0]["runStatus"] == "COMPLETED"


async def test_an_unknown_checkpoint_and_one_of_another_run_get_different_codes(
    context: Context, worker: JournalWorker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.PAUSED)
    payload = await mutate(context, "resumeRun", RUN, runId=run_id, checkpointId="ckp_01h455vb4pex5vsknk084sn02q")
    assert payload["errors"][0]["code"] == "NOT_FOUND"
    await context.database.pool.execute("DELETE FROM waits")
    other = await in_status(context.database, worker, caller, project, S.PAUSED)
    payload = await mutate(context, "resumeRun", RUN, runId=run_id, checkpointId="ckp_" + other[4:])
    assert payload["errors"][0]["errors"][0]["code"] == "OTHER_RUN"
