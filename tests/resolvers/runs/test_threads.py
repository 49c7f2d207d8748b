"""Threads: each turn sees the messages before it, and appends its own exactly once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.chat_models.catalog import open_models
from engine.nodes.registry import load_node_types
from engine.states import OnLimit, RetryFrom, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.maintenance.rescue import rescue_expired
from persistence.problems import Busy, Invalid
from persistence.queue.claims import claim_next
from persistence.runs.run import Run, RunOptions, RunThread
from persistence.threads.memory import ThreadStore
from resolvers.context import Context
from resolvers.runs import control, derive, start
from resolvers.runs.derive import ForkArguments, RetryArguments
from resolvers.runs.start import StartArguments
from tests.executor_worker import ExecutorWorker, Killed, accept_spec, edges
from tests.worker.paused_runs import execute, resume
from tests.worker.running_worker import ended, running

CHAT = RunOptions(thread=RunThread("chat"))
ASK: dict[str, Any] = {
    "id": "ask",
    "type": "llm",
    "config": {"model": "treadle/echo", "prompt": "{{ input.text }}", "memory": {"maxTokens": 1000}},
}
SPEC = {"nodes": [ASK], "edges": []}


@pytest.fixture
async def resources(database: Database) -> AsyncIterator[dict[str, Any]]:
    async with open_models([]) as models:
        yield {"models": models, "threads": ThreadStore(database.pool)}


async def stored(database: Database, columns: str = "role, content") -> list[tuple[Any, ...]]:
    query = f"SELECT {columns} FROM thread_messages m JOIN threads t ON t.id = m.thread_id ORDER BY t.key, m.number"
    return [tuple(row) for row in await database.pool.fetch(query)]


async def say(context: Context, project: str, text: str, on_busy: OnLimit = OnLimit.QUEUE, key: str = "chat") -> Run:
    options = RunOptions(thread=RunThread(key, on_busy))
    arguments = StartArguments(project_id=project, spec=SPEC, inputs={"text": text}, options=options)
    return await start.run_adhoc(context, arguments)


async def sent(database: Database, run_id: str) -> list[str]:
    """Return the contents that the model has received."""
    note = await database.pool.fetchval(
        "SELECT input FROM node_outputs WHERE run_id = $1 AND node_id = 'ask' ORDER BY seq DESC LIMIT 1", run_id
    )
    return [message["content"] for message in note["messages"]]


async def test_the_runs_of_a_thread_run_one_after_another_and_see_what_was_said(
    context: Context, database: Database, redis: Redis, project: str, resources: dict[str, Any]
) -> None:
    turns = [await say(context, project, f"turn {number}") for number in range(3)]
    other = await say(context, project, "alone", key="another chat")
    async with running(database, redis, load_node_types(), resources=resources) as runner:
        runner.poll()
        for run in (*turns, other):
            assert (await ended(database, run.id))["status"] == "COMPLETED"
    assert await stored(database, "t.key, number, role, content") == [
        ("another chat", 1, "user", "alone"),
        ("another chat", 2, "assistant", "alone"),
        *(
            ("chat", 2 * turn + place, role, f"turn {turn}")
            for turn in range(3)
            for place, role in ((1, "user"), (2, "assistant"))
        ),
    ]
    assert await sent(database, turns[2].id) == ["turn 0", "turn 0", "turn 1", "turn 1", "turn 2"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", [1, 2])
async def test_a_turn_whose_worker_dies_at_any_commit_is_appended_once(
    database: Database,
    redis: Redis,
    caller: Caller,
    project: str,
    resources: dict[str, Any],
    at: int,
    before: bool,
) -> None:
    spec = {"nodes": [{**ASK, "config": {**ASK["config"], "prompt": "hi"}}], "edges": []}
    run_id = await accept_spec(database, caller, project, spec, CHAT)
    async with ExecutorWorker(database, redis, resources=resources) as worker:
        with pytest.raises(Killed):
            await execute(await worker.claim(run_id, at, before, thread_key="chat"))
        if await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", run_id) == "RUNNING":
            status = await execute(await worker.claim(run_id, thread_key="chat"))
            assert status is RunStatus.COMPLETED
    assert await stored(database) == [("user", "hi"), ("assistant", "hi")]


async def test_a_rewind_removes_what_is_said_again(
    context: Context, database: Database, redis: Redis, project: str, resources: dict[str, Any]
) -> None:
    second = {**ASK, "id": "again", "config": {**ASK["config"], "prompt": "and {{ ask.output }}"}}
    spec = {"nodes": [ASK, second], "edges": edges("ask>again")}
    options = RunOptions(thread=RunThread("chat"), breakpoints=("again",))
    arguments = StartArguments(project_id=project, spec=spec, inputs={"text": "hi"}, options=options)
    run = await start.run_adhoc(context, arguments)
    async with ExecutorWorker(database, redis, resources=resources) as worker:
        assert await execute(await worker.claim(run.id, thread_key="chat")) is RunStatus.PAUSED
        assert len(await stored(database)) == 2
        first = await database.pool.fetchval(
            "SELECT id FROM checkpoints WHERE run_id = $1 ORDER BY seq LIMIT 1", run.id
        )
        await control.resume_run(context, run.id, first, None)
        assert await stored(database) == []
        assert await execute(await worker.claim(run.id, thread_key="chat")) is RunStatus.PAUSED
        await resume(database, run.id)
        assert await execute(await worker.claim(run.id, thread_key="chat")) is RunStatus.COMPLETED
    said = [content for _, content in await stored(database)]
    assert said == ["hi", "hi", "and hi", "and hi"]


async def test_a_retry_from_the_start_replaces_the_turn_and_a_fork_appends_nothing(
    context: Context, database: Database, redis: Redis, project: str, resources: dict[str, Any]
) -> None:
    run = await say(context, project, "hi")
    async with running(database, redis, load_node_types(), resources=resources) as runner:
        runner.poll()
        await ended(database, run.id)
        retry = await derive.retry_run(context, RetryArguments(run.id, RetryFrom.START))
        assert await stored(database) == []
        runner.poll()
        await ended(database, retry.id)
        again = await derive.retry_run(context, RetryArguments(retry.id, RetryFrom.START))
        runner.poll()
        await ended(database, again.id)
        first = await database.pool.fetchval(
            "SELECT id FROM checkpoints WHERE run_id = $1 ORDER BY seq LIMIT 1", run.id
        )
        fork = await derive.fork_run(context, ForkArguments(first))
        assert fork.options.thread is None
        runner.poll()
        await ended(database, fork.id)
    assert await stored(database, "run_id, content") == [(again.id, "hi"), (again.id, "hi")]


async def test_a_thread_is_free_when_its_worker_is_killed_or_its_run_is_cancelled(
    context: Context, database: Database, project: str
) -> None:
    first, second, third = [await say(context, project, text) for text in ("one", "two", "three")]

    async def claimed() -> list[str]:
        return [run.id for run in (await claim_next(database.pool, "w", 60, 10)).runs]

    assert await claimed() == [first.id]
    assert await claimed() == []
    # The worker is killed: recovery queues its run again, and the run goes on first.
    await database.pool.execute("UPDATE runs SET lease_until = now() - interval '1 s' WHERE id = $1", first.id)
    await rescue_expired(database, 3)
    assert await claimed() == [first.id]
    await control.cancel_run(context, first.id, None, None)
    assert await claimed() == []  # Its code may still run.
    await database.pool.execute("UPDATE runs SET lease_until = now() - interval '1 s' WHERE id = $1", first.id)
    await rescue_expired(database, 3)
    assert await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", first.id) == "CANCELLED"
    await control.cancel_run(context, second.id, None, None)
    assert await claimed() == [third.id]


async def test_a_busy_thread_refuses_a_turn_or_cancels_the_one_before(context: Context, project: str) -> None:
    first = await say(context, project, "one", OnLimit.REJECT)
    answers = await asyncio.gather(
        *(say(context, project, "two", OnLimit.REJECT) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, Busy) and "chat" in str(answer) for answer in answers), answers
    await say(context, project, "two", OnLimit.REJECT, "another chat")
    third = await say(context, project, "three", OnLimit.CANCEL_OLDEST)
    rows = await context.database.pool.fetch("SELECT id, status FROM runs WHERE lane LIKE '%/thread/chat' ORDER BY id")
    assert [tuple(row) for row in rows] == [(first.id, "CANCELLED"), (third.id, "QUEUED")]


@pytest.mark.parametrize("key", ["", " chat", "a\nb", "x" * 201])
async def test_a_key_of_a_thread_is_visible_text(context: Context, project: str, key: str) -> None:
    with pytest.raises(Invalid):
        await say(context, project, "hi", key=key)


async def test_a_workflow_with_a_limit_of_its_own_has_no_threads(context: Context, project: str) -> None:
    arguments = StartArguments(project_id=project, spec={**SPEC, "concurrency": {"limit": 2}}, options=CHAT)
    with pytest.raises(Invalid, match="concurrency"):
        await start.run_adhoc(context, arguments)
