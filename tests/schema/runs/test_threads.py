"""The blocks of docs/threads.md work as they are written; threads are read and deleted."""

import json
import re
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.chat_models.catalog import open_models
from engine.nodes.registry import load_node_types
from persistence.maintenance.retention import prune_threads
from persistence.threads.memory import ThreadStore
from resolvers.context import Context
from tests.paths import ROOT
from tests.schema_client import call, new_workflow
from tests.statement_counter import count_statements
from tests.worker.running_worker import ended, running


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "docs/threads.md").read_text(), re.DOTALL)


async def test_the_blocks_of_the_page_make_a_conversation_that_can_be_read_and_deleted(
    context: Context, redis: Redis
) -> None:
    [spec], [say, read, forget] = blocks("json"), blocks("graphql")
    workflow = await new_workflow(context, json.loads(spec))
    database, resources = context.database, dict[str, Any](threads=ThreadStore(context.database.pool))
    async with (
        open_models([]) as models,
        running(database, redis, load_node_types(), resources={**resources, "models": models}) as runner,
    ):
        for text in ("hello", "and again"):
            answer = (await call(context, say, workflow=workflow, text={"text": text}))["runWorkflow"]
            assert answer["errors"] == []
            assert answer["run"]["options"]["thread"] == {"key": "customer-17", "onBusy": "QUEUE"}
            runner.poll()
            await ended(database, answer["run"]["id"])
    data = await call(context, read)
    messages = data["thread"]["messages"]
    assert [(one["number"], one["role"], one["content"]) for one in messages] == [
        (4, "assistant", "and again"),
        (3, "user", "and again"),
        (2, "assistant", "hello"),
        (1, "user", "hello"),
    ]
    assert {one["nodeId"] for one in messages} == {"answer"} and messages[0]["run"]["id"] == answer["run"]["id"]
    assert [one["key"] for one in data["threads"]["nodes"]] == ["customer-17"]
    assert (await call(context, forget, thread=data["thread"]["id"]))["deleteThread"]["errors"] == []
    assert (await call(context, read))["thread"] is None
    assert await database.pool.fetchval("SELECT count(*) FROM thread_messages") == 0


async def store(context: Context, project: str, key: str, *tokens: int) -> None:
    """Store a thread whose messages alternate, with these estimates."""
    pool, id = context.database.pool, f"thr_{key}"
    await pool.execute(
        "INSERT INTO threads (id, project_id, key, last_number) VALUES ($1, $2, $3, $4)", id, project, key, len(tokens)
    )
    for number, count in enumerate(tokens, 1):
        await pool.execute(
            "INSERT INTO thread_messages (thread_id, number, run_id, run_seq, node_id, visit, role, content, tokens)"
            "VALUES ($1, $2::int, 'run_1', 1, 'ask', 1, $3, $2::text, $4)",
            *(id, number, "user" if number % 2 else "assistant", count),
        )


@pytest.mark.parametrize(
    ("window", "expected"), [(100, ["1", "2", "3", "4"]), (45, ["3", "4"]), (24, ["3", "4"]), (23, []), (1, [])]
)
async def test_a_window_has_the_last_messages_that_fit_it_from_one_of_the_user_on(
    context: Context, project: str, window: int, expected: list[str]
) -> None:
    await store(context, project, "a", 30, 20, 14, 10)
    loaded = await ThreadStore(context.database.pool).load(project, "a", window)
    assert [message.content for message in loaded] == expected
    assert await ThreadStore(context.database.pool).load("prj_other", "a", window) == []


async def test_the_messages_of_many_threads_are_read_by_one_statement(context: Context, project: str) -> None:
    for number in range(5):
        await store(context, project, str(number), *range(number + 1))
    query = (
        "{ threads { nodes { key messages(first: 2) { number } newer: messages(first: 1, before: 2) { number } } } }"
    )
    async with count_statements(context.database) as statements:
        nodes = (await call(context, query))["threads"]["nodes"]
    assert [[message["number"] for message in node["messages"]] for node in nodes] == [
        [5, 4],
        [4, 3],
        [3, 2],
        [2, 1],
        [1],
    ]
    assert len(statements) == 3


async def test_retention_deletes_threads_without_a_new_message(context: Context, project: str) -> None:
    await store(context, project, "old", 1)
    await store(context, project, "new", 1)
    await context.database.pool.execute("UPDATE threads SET updated_at = now() - interval '3 days' WHERE key = 'old'")
    assert await prune_threads(context.database.pool, 2) == 1
    assert await context.database.pool.fetchval("SELECT array_agg(key) FROM threads") == ["new"]
    assert await context.database.pool.fetchval("SELECT count(*) FROM thread_messages") == 1
