"""Concurrent calls with one key are executed once, and a refused call uses up no key."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.states import RunStatus
from persistence.caller import Caller
from resolvers.context import Context
from tests.journal_worker import JournalWorker
from tests.resolvers.runs_by_status import QUESTION, RUN, S, all_rows, in_status
from tests.schema_client import LINEAR, mutate, new_workflow


async def test_an_answer_that_fails_its_schema_changes_nothing_and_only_the_first_answer_wins(
    context: Context, worker: JournalWorker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.WAITING)
    before = await all_rows(context.database, run_id)
    invalid = await mutate(context, "resumeRun", RUN, runId=run_id, waitId=QUESTION, answer={"no": 1})
    assert invalid["errors"][0]["errors"][0]["field"].startswith("input.answer")
    unknown = await mutate(context, "resumeRun", RUN, runId=run_id, waitId="wait_01h455vb4pex5vsknk084sn02r", answer=1)
    assert unknown["errors"][0]["code"] == "NOT_FOUND"
    assert await all_rows(context.database, run_id) == before
    answers = await asyncio.gather(
        *(mutate(context, "resumeRun", RUN, runId=run_id, waitId=QUESTION, answer={"ok": n}) for n in range(8))
    )
    assert sorted(len(answer["errors"]) for answer in answers) == [0] + [1] * 7
    assert {answer["errors"][0]["code"] for answer in answers if answer["errors"]} == {"CONFLICT"}


OPERATIONS: dict[str, tuple[RunStatus, Callable[[str], dict[str, Any]]]] = {
    "executeRun": (S.PENDING, lambda run_id: {"runId": run_id}),
    "cancelRun": (S.WAITING, lambda run_id: {"runId": run_id}),
    "pauseRun": (S.WAITING, lambda run_id: {"runId": run_id}),
    "resumeRun": (S.PAUSED, lambda run_id: {"runId": run_id}),
    "stepRun": (S.PAUSED, lambda run_id: {"runId": run_id, "timeoutMs": 0}),
    "setBreakpoints": (S.PAUSED, lambda run_id: {"runId": run_id, "nodeIds": ["b"]}),
    "rewind": (S.PAUSED, lambda run_id: {"runId": run_id, "checkpointId": "ckp_" + run_id[4:]}),
    "answer": (S.WAITING, lambda run_id: {"runId": run_id, "waitId": QUESTION, "answer": {"ok": 1}}),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_twenty_concurrent_calls_with_one_key_change_the_run_once_and_get_the_same_answer(
    context: Context, worker: JournalWorker, caller: Caller, project: str, name: str
) -> None:
    status, arguments = OPERATIONS[name]
    mutation = {"rewind": "resumeRun", "answer": "resumeRun"}.get(name, name)
    run_id = await in_status(context.database, worker, caller, project, status)
    seq = await context.database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)

    answers = await asyncio.gather(
        *(mutate(context, mutation, RUN, **arguments(run_id), idempotencyKey="the key") for _ in range(20))
    )
    assert all(answer == answers[0] and answer["errors"] == [] for answer in answers)
    after = await context.database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)
    written = await context.database.pool.fetchval(
        "SELECT count(*) FROM events WHERE run_id = $1 AND seq > $2", run_id, seq
    )
    assert after - seq == written
    statuses = await context.database.pool.fetchval(
        "SELECT count(*) FROM events WHERE run_id = $1 AND seq > $2 AND type = 'RUN_STATUS'", run_id, seq
    )
    assert statuses == (0 if name == "setBreakpoints" else 1)
    await context.database.pool.execute("DELETE FROM waits")
    other = await in_status(context.database, worker, caller, project, status)
    before = await all_rows(context.database, other)
    conflicting = await mutate(context, mutation, RUN, **arguments(other), idempotencyKey="the key")
    assert conflicting["errors"][0]["code"] == "CONFLICT"
    assert await all_rows(context.database, other) == before


async def test_of_concurrent_calls_with_different_keys_only_one_wins(
    context: Context, worker: JournalWorker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.WAITING)
    answers = await asyncio.gather(
        *(mutate(context, "cancelRun", RUN, runId=run_id, idempotencyKey=f"key {n}") for n in range(20))
    )
    assert sorted(len(answer["errors"]) for answer in answers) == [0] + [1] * 19
    assert {answer["errors"][0]["code"] for answer in answers if answer["errors"]} == {"INVALID_STATE"}


async def test_a_refused_call_does_not_use_up_its_key(
    context: Context, worker: JournalWorker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.RUNNING)
    early = await mutate(context, "resumeRun", RUN, runId=run_id, idempotencyKey="the key")
    await context.database.pool.execute("UPDATE runs SET status = 'PAUSED' WHERE id = $1", run_id)
    later = await mutate(context, "resumeRun", RUN, runId=run_id, idempotencyKey="the key")
    assert (early["errors"][0]["code"], later["run"]["status"]) == ("INVALID_STATE", "QUEUED")


@pytest.mark.parametrize("name", ["createRun", "runWorkflow", "runAdhoc"])
async def test_twenty_concurrent_calls_with_one_key_create_one_run(context: Context, name: str) -> None:
    target = {"spec": LINEAR} if name == "runAdhoc" else {"workflowId": await new_workflow(context)}

    def start(inputs: Any) -> Awaitable[dict[str, Any]]:
        return mutate(context, name, RUN, **target, inputs=inputs, idempotencyKey="the key")

    answers = await asyncio.gather(*(start({"value": 1}) for _ in range(20)))
    assert all(answer == answers[0] and answer["errors"] == [] for answer in answers)
    assert (await start({"value": 2}))["errors"][0]["code"] == "CONFLICT"
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 1


async def test_a_key_has_1_to_255_characters(
    context: Context, worker: JournalWorker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.WAITING)
    for length in (0, 256):
        [refused] = (await mutate(context, "cancelRun", RUN, runId=run_id, idempotencyKey="k" * length))["errors"]
        assert [problem["field"] for problem in refused["errors"]] == ["input.idempotencyKey"]
    assert (await mutate(context, "cancelRun", RUN, runId=run_id, idempotencyKey="k" * 255))["errors"] == []
