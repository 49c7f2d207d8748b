"""Every run mutation in every status: what the state machine lets happens, anything else says so and changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from engine.nodes.registry import load_node_types
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.database import Database
from persistence.feed import Feed
from resolvers.context import Context
from tests.calling import LINEAR, mutate, new_workflow
from tests.calling import call as ask
from tests.driving import Worker, accepted, working
from tests.taking_up import Worker as Driver
from tests.taking_up import accept_spec
from worker.queue import Queue

ALL = list(RunStatus)
S = RunStatus
TERMINAL = {S.COMPLETED, S.FAILED, S.CANCELLED}
RUN = "run { id status }"
QUESTION = "wait_01h455vb4pex5vsknk084sn02q"

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
"""Mutation → status → the status that follows. What is not here is refused."""
OFFERED = {
    "EXECUTE": "executeRun",
    "CANCEL": "cancelRun",
    "PAUSE": "pauseRun",
    "RESUME": "resumeRun",
    "STEP": "stepRun",
    "ANSWER": "answer",
}
ASKED_FOR_ALREADY = {("cancelRun", S.CANCELLING), ("pauseRun", S.PAUSING), ("pauseRun", S.PAUSED)}
"""Accepted, as nobody can tell whether a client knew; but not offered."""


@pytest.fixture
async def context(database: Database, redis: Redis, caller: Caller) -> AsyncIterator[Context]:
    feed = Feed(database, redis)
    queue = Queue(ArqRedis(redis.connection_pool), "test")
    yield Context(caller, database, load_node_types(), redis, queue, feed)
    await feed.close()


@pytest.fixture
async def worker(database: Database, redis: Redis) -> AsyncIterator[Worker]:
    async with working(database, redis) as worker:
        yield worker


async def in_status(database: Database, worker: Worker, caller: Caller, project: str, status: RunStatus) -> str:
    """A run that has run a little, has a checkpoint and an open question, and stands at `status`."""
    run = (await accepted(database, caller, project)).run
    held = await worker.takes_up(run)
    await held.checkpoint("ckp_" + run.id[4:], step=1, next_nodes=["b"])
    await database.pool.execute("UPDATE runs SET status = $2, takeup = 1 WHERE id = $1", run.id, status)
    await database.pool.execute(
        """INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, prompt, schema)
        VALUES ($1, $2, 'a', 1, 0, 2, 'INPUT', $3, $4)""",
        QUESTION,
        run.id,
        "Well?",
        {"type": "object", "required": ["ok"]},
    )
    return run.id


async def call(context: Context, name: str, run_id: str) -> dict[str, Any]:
    quick: dict[str, Any] = {"runId": run_id, "timeoutMs": 0}
    given: dict[str, tuple[str, dict[str, Any]]] = {
        "pauseRun": ("pauseRun", quick),
        "stepRun": ("stepRun", quick),
        "rewind": ("resumeRun", {"runId": run_id, "checkpointId": "ckp_" + run_id[4:]}),
        "answer": ("resumeRun", {"runId": run_id, "waitId": QUESTION, "answer": {"ok": True}}),
        "setBreakpoints": ("setBreakpoints", {"runId": run_id, "nodeIds": ["b"]}),
    }
    mutation, input = given.get(name, (name, {"runId": run_id}))
    return await mutate(context, mutation, RUN, **input)


async def everything(database: Database, run_id: str) -> list[Any]:
    """All rows of a run."""
    tables = {"runs": "id", "events": "seq", "node_states": "node_id", "checkpoints": "seq", "waits": "id"}
    rows: list[Any] = []
    for table, order in tables.items():
        column = "id" if table == "runs" else "run_id"
        rows += await database.pool.fetch(f"SELECT * FROM {table} WHERE {column} = $1 ORDER BY {order}", run_id)
    return [dict(row) for row in rows]


@pytest.mark.parametrize("name", OUTCOMES)
async def test_a_mutation_does_in_each_status_what_the_state_machine_says(
    context: Context, worker: Worker, caller: Caller, project: str, name: str
) -> None:
    database = context.database
    for status in ALL:
        run_id = await in_status(database, worker, caller, project, status)
        before = await everything(database, run_id)
        payload = await call(context, name, run_id)
        stands = await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", run_id)
        follows = OUTCOMES[name].get(status)
        if follows is None:
            assert payload["run"] is None, (name, status)
            [error] = payload["errors"]
            assert error["__typename"] == "InvalidStateProblem", (name, status)
            assert await everything(database, run_id) == before, (name, status)
        else:
            assert payload["errors"] == [], (name, status)
            assert (payload["run"]["status"], stands) == (follows, follows), (name, status)
        await database.pool.execute("DELETE FROM runs WHERE id = $1", run_id)


DERIVED: dict[str, set[RunStatus]] = {
    "retryRun from START": TERMINAL,
    "retryRun from FAILED": {S.FAILED, S.CANCELLED},
    "forkRun": set(ALL),
}
"""Mutation → the statuses in which it makes a new run. The one that it is made of stays as it is, whatever comes of it."""


@pytest.mark.parametrize("name", DERIVED)
async def test_a_run_is_made_of_another_in_the_statuses_that_the_state_machine_says(
    context: Context, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    database = context.database
    run_id = await accept_spec(database, caller, project, LINEAR)
    async with Driver(database, redis) as driver:
        await (await driver.take_up(run_id)).run()
    checkpoint_id = await database.pool.fetchval("SELECT id FROM checkpoints WHERE run_id = $1 LIMIT 1", run_id)
    mutation, _, where = name.partition(" from ")
    given = {"runId": run_id, "from": where} if where else {"checkpointId": checkpoint_id}
    for status in ALL:
        await database.pool.execute("UPDATE runs SET status = $2 WHERE id = $1", run_id, status)
        before = await everything(database, run_id)
        count = await database.pool.fetchval("SELECT count(*) FROM runs")
        payload = await mutate(context, mutation, RUN, **given)
        made = await database.pool.fetchval("SELECT count(*) FROM runs") - count
        if status in DERIVED[name]:
            assert (payload["errors"], payload["run"]["status"], made) == ([], "QUEUED", 1), (name, status)
        else:
            [error] = payload["errors"]
            assert (error["__typename"], error["runStatus"], made) == ("InvalidStateProblem", status, 0), (name, status)
        assert await everything(database, run_id) == before, (name, status)


async def test_what_is_offered_is_what_is_accepted(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    query = "query($id: ID!) { run(id: $id) { availableActions } }"
    for status in ALL:
        run_id = await in_status(context.database, worker, caller, project, status)
        offered = set((await ask(context, query, id=run_id))["run"]["availableActions"])
        accepted = {action for action, name in OFFERED.items() if status in OUTCOMES[name]}
        accepted -= {action for action, name in OFFERED.items() if (name, status) in ASKED_FOR_ALREADY}
        assert offered & set(OFFERED) == accepted, status
        assert ("RETRY" in offered, "FORK" in offered) == (status in TERMINAL, True), status
        await context.database.pool.execute("UPDATE waits SET answered_at = now() WHERE run_id = $1", run_id)
        assert "ANSWER" not in (await ask(context, query, id=run_id))["run"]["availableActions"]
        await context.database.pool.execute("DELETE FROM runs WHERE id = $1", run_id)


async def test_a_refusal_names_the_status_that_stands(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.COMPLETED)
    for name in OUTCOMES:
        payload = await call(context, name, run_id)
        assert payload["errors"][0]["code"] == "INVALID_STATE"
        assert payload["errors"][0]["runStatus"] == "COMPLETED"


async def test_an_unknown_checkpoint_and_one_of_another_run_are_told_apart(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.PAUSED)
    payload = await mutate(context, "resumeRun", RUN, runId=run_id, checkpointId="ckp_01h455vb4pex5vsknk084sn02q")
    assert payload["errors"][0]["code"] == "NOT_FOUND"
    await context.database.pool.execute("DELETE FROM waits")
    other = await in_status(context.database, worker, caller, project, S.PAUSED)
    payload = await mutate(context, "resumeRun", RUN, runId=run_id, checkpointId="ckp_" + other[4:])
    assert payload["errors"][0]["errors"][0]["code"] == "OTHER_RUN"


async def test_an_answer_that_fails_its_schema_changes_nothing_and_a_second_one_loses(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.WAITING)
    before = await everything(context.database, run_id)
    wrong = await mutate(context, "resumeRun", RUN, runId=run_id, waitId=QUESTION, answer={"no": 1})
    assert wrong["errors"][0]["errors"][0]["field"].startswith("input.answer")
    unknown = await mutate(context, "resumeRun", RUN, runId=run_id, waitId="wait_01h455vb4pex5vsknk084sn02r", answer=1)
    assert unknown["errors"][0]["code"] == "NOT_FOUND"
    assert await everything(context.database, run_id) == before
    answers = await asyncio.gather(
        *(mutate(context, "resumeRun", RUN, runId=run_id, waitId=QUESTION, answer={"ok": n}) for n in range(8))
    )
    assert sorted(len(one["errors"]) for one in answers) == [0] + [1] * 7
    assert {one["errors"][0]["code"] for one in answers if one["errors"]} == {"CONFLICT"}


KEYED: dict[str, tuple[RunStatus, Callable[[str], dict[str, Any]]]] = {
    "executeRun": (S.PENDING, lambda run_id: {"runId": run_id}),
    "cancelRun": (S.WAITING, lambda run_id: {"runId": run_id}),
    "pauseRun": (S.WAITING, lambda run_id: {"runId": run_id}),
    "resumeRun": (S.PAUSED, lambda run_id: {"runId": run_id}),
    "stepRun": (S.PAUSED, lambda run_id: {"runId": run_id, "timeoutMs": 0}),
    "setBreakpoints": (S.PAUSED, lambda run_id: {"runId": run_id, "nodeIds": ["b"]}),
    "rewind": (S.PAUSED, lambda run_id: {"runId": run_id, "checkpointId": "ckp_" + run_id[4:]}),
    "answer": (S.WAITING, lambda run_id: {"runId": run_id, "waitId": QUESTION, "answer": {"ok": 1}}),
}


@pytest.mark.parametrize("name", KEYED)
async def test_one_key_from_twenty_callers_at_once_does_it_once_and_answers_alike(
    context: Context, worker: Worker, caller: Caller, project: str, name: str
) -> None:
    status, arguments = KEYED[name]
    mutation = {"rewind": "resumeRun", "answer": "resumeRun"}.get(name, name)
    run_id = await in_status(context.database, worker, caller, project, status)
    seq = await context.database.pool.fetchval("SELECT last_seq FROM runs WHERE id = $1", run_id)

    def once(key: str, **more: Any) -> Awaitable[dict[str, Any]]:
        return mutate(context, mutation, RUN, **{**arguments(run_id), **more}, idempotencyKey=key)

    answers = await asyncio.gather(*(once("the key") for _ in range(20)))
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
    before = await everything(context.database, other)
    conflicting = await mutate(context, mutation, RUN, **arguments(other), idempotencyKey="the key")
    assert conflicting["errors"][0]["code"] == "CONFLICT"
    assert await everything(context.database, other) == before


async def test_callers_with_keys_of_their_own_take_turns(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.WAITING)
    answers = await asyncio.gather(
        *(mutate(context, "cancelRun", RUN, runId=run_id, idempotencyKey=f"key {n}") for n in range(20))
    )
    assert sorted(len(answer["errors"]) for answer in answers) == [0] + [1] * 19
    assert {answer["errors"][0]["code"] for answer in answers if answer["errors"]} == {"INVALID_STATE"}


async def test_a_refused_call_does_not_use_its_key_up(
    context: Context, worker: Worker, caller: Caller, project: str
) -> None:
    run_id = await in_status(context.database, worker, caller, project, S.RUNNING)
    early = await mutate(context, "resumeRun", RUN, runId=run_id, idempotencyKey="the key")
    await context.database.pool.execute("UPDATE runs SET status = 'PAUSED' WHERE id = $1", run_id)
    later = await mutate(context, "resumeRun", RUN, runId=run_id, idempotencyKey="the key")
    assert (early["errors"][0]["code"], later["run"]["status"]) == ("INVALID_STATE", "QUEUED")


@pytest.mark.parametrize("name", ["createRun", "runWorkflow", "runAdhoc"])
async def test_one_key_from_twenty_callers_at_once_makes_one_run(context: Context, name: str) -> None:
    where = {"spec": LINEAR} if name == "runAdhoc" else {"workflowId": await new_workflow(context)}

    def once(inputs: Any) -> Awaitable[dict[str, Any]]:
        return mutate(context, name, RUN, **where, inputs=inputs, idempotencyKey="the key")

    answers = await asyncio.gather(*(once({"value": 1}) for _ in range(20)))
    assert all(answer == answers[0] and answer["errors"] == [] for answer in answers)
    assert (await once({"value": 2}))["errors"][0]["code"] == "CONFLICT"
    assert await context.database.pool.fetchval("SELECT count(*) FROM runs") == 1
