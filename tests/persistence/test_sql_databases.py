"""Databases that tools query: what a query returns, and what it may not do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from engine.catalog_file import SqlDatabase
from engine.errors import NodeFailure
from engine.isolation.turns import Owner, working_for
from engine.tools.catalog import Tools
from engine.tools.sql import sql_tools
from persistence.sql_databases import SqlPools, find_role_problems, open_databases
from tests.engine.node_runner import NodeHarness

SETUP = """
CREATE TABLE orders (id int PRIMARY KEY, total numeric(10, 2), at timestamptz, note jsonb, paid bool);
INSERT INTO orders SELECT n, n * 1.5, '2030-01-01Z'::timestamptz + n * interval '1 day', '{"a": [1]}', n % 2 = 0
FROM generate_series(1, 10) n;
CREATE SEQUENCE counter;
CREATE FUNCTION sly() RETURNS int LANGUAGE sql AS 'DELETE FROM orders RETURNING 1';
"""


@pytest.fixture
async def tools(database_url: str) -> AsyncIterator[Tools]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(SETUP)
    await connection.close()
    configs = {
        "shop": SqlDatabase(url=database_url, description="Orders.", timeout_s=1, max_rows=5),
        "open": SqlDatabase(url="${SHOP_URL}", required_scopes=[]),
        "gone": SqlDatabase(url="postgresql://127.0.0.1:1/nothing"),
    }
    async with open_databases(configs) as databases:
        yield Tools(sql_tools(configs, databases))


async def read(
    tools: Tools, query: str, *parameters: Any, name: str = "sql:shop", scope: str = "admin", **more: Any
) -> Any:
    harness = NodeHarness()
    harness.context.scopes = frozenset([scope])
    arguments = {"query": query, "parameters": list(parameters), **more}
    async with asyncio.timeout(20):
        return await tools.call(name, arguments, harness.context)


async def failure(tools: Tools, query: str, *parameters: Any, **more: Any) -> NodeFailure:
    with pytest.raises(NodeFailure) as failed:
        await read(tools, query, *parameters, **more)
    return failed.value


async def test_a_whole_number_beyond_64_bits_is_an_error_and_never_rounded(tools: Tools) -> None:
    failed = await failure(tools, "SELECT 18446744073709551617::numeric AS id")
    assert "contains the whole number 18446744073709551617" in failed.message
    assert "column::text" in failed.message
    rows = (await read(tools, "SELECT 18446744073709551617::numeric::text AS id"))["rows"]
    assert rows == [{"id": "18446744073709551617"}]


async def test_a_query_gives_rows_as_json(tools: Tools) -> None:
    result = await read(tools, "SELECT * FROM orders WHERE id = $1 -- the one", 2)
    row = {"id": 2, "total": 3.0, "at": "2030-01-03T00:00:00+00:00", "note": {"a": [1]}, "paid": True}
    assert result == {"rows": [row], "truncated": False}
    assert await read(tools, "WITH x AS (VALUES (1)) SELECT 'a' AS b FROM x") == {
        "rows": [{"b": "a"}],
        "truncated": False,
    }


@pytest.mark.parametrize(
    ("condition", "parameters", "ids"),
    [
        ("id < $1 AND paid = $2", (4, True), [2]),
        ("total > $1", (14,), [10]),
        ("at >= $1 AND note = $2", ("2030-01-11", {"a": [1]}), [10]),
        ("id = ANY(ARRAY[$1, $2]::int[])", (1, 2), [1, 2]),
        ("note->>'b' IS NOT DISTINCT FROM $1::text AND id = 1", (None,), [1]),
    ],
)
async def test_parameters_are_values_of_their_types(
    tools: Tools, condition: str, parameters: tuple[Any, ...], ids: list[int]
) -> None:
    result = await read(tools, f"SELECT id FROM orders WHERE {condition} ORDER BY id", *parameters)
    assert [row["id"] for row in result["rows"]] == ids


async def test_rows_are_limited_and_the_result_says_so(tools: Tools) -> None:
    result = await read(tools, "SELECT id FROM orders ORDER BY id DESC")
    assert ([row["id"] for row in result["rows"]], result["truncated"]) == ([10, 9, 8, 7, 6], True)
    result = await read(tools, "SELECT id FROM orders WHERE id <= 2", limit=2)
    assert (len(result["rows"]), result["truncated"]) == (2, False)
    assert (await failure(tools, "SELECT 1", limit=6)).code == "TOOL_ARGUMENTS"


BAD_PARAMETER = "'two' is not valid for the type of its column or parameter"
BAD_QUERIES = [
    ("SELECT * FROM nope.orders", "TOOL_FAILED", "the table 'nope.orders' does not exist"),
    ("SELECT a.id FROM orders a JOIN orders b ON id = 1", "TOOL_FAILED", "the column 'id' exists in more than one"),
    ("SELECT nope(1)", "TOOL_FAILED", "does not exist for these types"),
    ("SELECT id FROM orders GROUP BY paid", "TOOL_FAILED", "must be in GROUP BY"),
    ("SELECT 'x'::nope", "TOOL_FAILED", "'nope' does not exist"),
    ("SELECT 'soon'::timestamptz", "TOOL_FAILED", "'soon' is no date or time"),
    ("SELECT 99999999999::int", "TOOL_FAILED", "out of the range of its type"),
    ("SELECT FROM WHERE", "TOOL_FAILED", "syntax error at or near 'WHERE'"),
    ("DELETE FROM orders", "TOOL_FAILED", "must be one SELECT"),
    (
        "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone",
        "TOOL_FAILED",
        "without commands that change data",
    ),
    ("SELECT sly()", "TOOL_FAILED", "only reading is allowed"),
    ("SELECT nextval('counter')", "TOOL_FAILED", "only reading is allowed"),
    ("SELECT set_config('transaction_read_only', 'off', false)", "TOOL_FAILED", "transaction"),
    ("SELECT 1) AS a; DROP TABLE orders; SELECT * FROM (SELECT 1", "TOOL_FAILED", "syntax error"),
    (
        "SELECT 1) AS a) AS b UNION ALL SELECT repeat('x', 9) FROM (SELECT 1 FROM (SELECT 1",
        "TOOL_FAILED",
        "syntax error",
    ),
    ("SELECT * INTO stolen FROM orders", "TOOL_FAILED", ""),
    ("SELECT 1; SELECT 2", "TOOL_FAILED", "write one SELECT"),
    ("COPY orders TO PROGRAM 'cat'", "TOOL_FAILED", "must be one SELECT"),
    ("SELECT nope FROM orders", "TOOL_FAILED", "the column 'nope' does not exist"),
    ("SELECT 1 / 0", "TOOL_FAILED", "division by zero"),
    ("SELECT $1::int", "TOOL_FAILED", "one value for each of $1"),
    ("", "TOOL_FAILED", "must be one SELECT"),
    ("SELECT pg_sleep(60)", "TIMEOUT", "within 1 s"),
    ("SELECT repeat('x', 300000) AS big", "TOOL_FAILED", "larger than 256 KiB"),
]


@pytest.mark.parametrize(("query", "code", "message"), BAD_QUERIES)
async def test_a_query_that_does_more_than_read_is_refused(tools: Tools, query: str, code: str, message: str) -> None:
    failed = await failure(tools, query)
    assert (failed.code, message in failed.message) == (code, True), failed.message
    assert len((await read(tools, "SELECT count(*) AS n FROM orders"))["rows"]) == 1
    assert (await read(tools, "SELECT count(*) AS n FROM orders"))["rows"][0]["n"] == 10


async def test_a_large_result_is_refused_before_it_fills_the_memory(database_url: str) -> None:
    config = SqlDatabase(url=database_url, max_rows=100_000)
    async with open_databases({"shop": config}) as databases:
        tools = Tools(sql_tools({"shop": config}, databases))
        failed = await failure(tools, "SELECT repeat('x', 200000) AS x FROM generate_series(1, 100000)")
    assert (failed.code, "larger than 4 MiB" in failed.message) == ("TOOL_FAILED", True)


async def test_a_parameter_of_the_wrong_type_is_a_clear_error(tools: Tools) -> None:
    failed = await failure(tools, "SELECT id FROM orders WHERE id = $1", "two")
    assert (failed.code, BAD_PARAMETER in failed.message) == ("TOOL_FAILED", True)


async def test_the_catalog_decides_who_may_query(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    assert (await failure(tools, "SELECT 1 AS n", scope="run")).code == "TOOL_FORBIDDEN"
    failed = await failure(tools, "SELECT 1 AS n", name="sql:open", scope="run")
    assert (failed.code, "SHOP_URL is not set" in failed.message) == ("TOOL_FAILED", True)
    monkeypatch.setenv("SHOP_URL", database_url)
    assert (await read(tools, "SELECT 1 AS n", name="sql:open", scope="run"))["rows"] == [{"n": 1}]


async def test_an_unreachable_database_is_a_clear_error(tools: Tools) -> None:
    failed = await failure(tools, "SELECT 1 AS n", name="sql:gone")
    assert (failed.code, failed.retryable, "'gone' cannot be reached" in failed.message) == ("TOOL_FAILED", True, True)


async def test_a_cancelled_query_ends_in_the_database(tools: Tools, database_url: str) -> None:
    config = SqlDatabase(url=database_url, timeout_s=60)
    async with open_databases({"shop": config}) as databases:
        reading = asyncio.create_task(databases.read("shop", "SELECT pg_sleep(59) AS s", [], 1))
        watching = await asyncpg.connect(database_url)
        count = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE query LIKE '%pg_sleep(59)%' AND state = 'active' AND pid <> pg_backend_pid()"
        )
        async with asyncio.timeout(20):
            while not await watching.fetchval(count):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            while await watching.fetchval(count):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await watching.close()


async def test_more_queries_than_connections_all_succeed(database_url: str) -> None:
    async with open_databases({"shop": SqlDatabase(url=database_url)}) as databases:
        assert isinstance(databases, SqlPools)
        result = await asyncio.gather(*(databases.read("shop", f"SELECT {n} AS n", [], 1) for n in range(20)))
    assert [rows[0]["n"] for rows in result] == list(range(20))  # type: ignore[index, call-overload]


async def test_a_query_leaves_no_role_and_no_setting_for_the_next_one(tools: Tools) -> None:
    user = (await read(tools, "SELECT current_user::text AS name"))["rows"]
    for local in ("true", "false"):
        await read(tools, f"SELECT set_config('role', 'pg_monitor', {local})")
        await read(tools, f"SELECT set_config('search_path', 'nowhere', {local})")
        await read(tools, f"SELECT set_config('session_authorization', 'pg_monitor', {local})")
    for _ in range(5):
        assert (await read(tools, "SELECT current_user::text AS name"))["rows"] == user
        assert (await read(tools, "SELECT count(*) AS count FROM orders"))["rows"] == [{"count": 10}]


async def test_a_notification_of_a_query_is_never_sent(tools: Tools, database_url: str) -> None:
    listener, received = await asyncpg.connect(database_url), asyncio.Queue[str]()
    await listener.add_listener("shop", lambda *call: received.put_nowait(call[-1]))
    await read(tools, "SELECT pg_notify('shop', 'by the query')::text AS sent")
    await listener.execute("SELECT pg_notify('shop', 'by the test')")
    assert await asyncio.wait_for(received.get(), 10) == "by the test"
    await listener.close()


async def test_a_superuser_and_an_unreachable_database_are_reported(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE ROLE reader LOGIN")
    await connection.close()
    reader = database_url.replace("postgres@", "reader@", 1)
    configs = {"all": database_url, "some": reader, "gone": "postgresql://127.0.0.1:1/nothing"}
    try:
        problems = await find_role_problems({name: SqlDatabase(url=url) for name, url in configs.items()})
    finally:
        connection = await asyncpg.connect(database_url)
        await connection.execute("DROP ROLE reader")
        await connection.close()
    assert list(problems) == ["all", "gone"]
    assert "is a superuser" in problems["all"]
    assert problems["gone"].startswith("cannot be reached")


async def test_a_project_with_slow_queries_leaves_a_connection_to_the_others(
    tools: Tools, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("SHOP_URL", database_url)
    with working_for(Owner("slow", "run")):
        slow = [asyncio.create_task(read(tools, "SELECT pg_sleep(9)", name="sql:open")) for _ in range(8)]
    try:
        with working_for(Owner("other", "run")):
            async with asyncio.timeout(8):
                for number in range(3):
                    rows = (await read(tools, f"SELECT {number} AS n", name="sql:open"))["rows"]
                    assert rows == [{"n": number}]
        assert not any(task.done() for task in slow)
    finally:
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
