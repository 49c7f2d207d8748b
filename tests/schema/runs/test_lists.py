"""Lists of runs: every order, filter and search against a model in Python, and the plans of their queries."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
import orjson
import pytest
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection

from persistence.caller import Role
from persistence.db import barrier
from persistence.db.database import Database
from persistence.runs.listing import RunList
from persistence.runs.run_filter import RunFilter
from persistence.runs.run_order import OrderDirection, RunOrder, RunOrderField, RunRange
from persistence.workflows import projects
from resolvers.context import Context
from resolvers.loaders import Loaders
from schema.schema import schema
from tests.schema_client import call, new_workflow
from tests.statement_counter import count_statements

LIST = """query ($project: ID, $f: RunFilter, $o: RunOrder, $n: Int, $after: String, $last: Int, $before: String) {
  runs(projectId: $project, filter: $f, orderBy: $o, first: $n, after: $after, last: $last, before: $before) {
    edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""
TOTAL = "query ($f: RunFilter, $o: RunOrder) { runs(filter: $f, orderBy: $o) { totalCount totalCountCapped } }"
OF_WORKFLOW = """query ($id: ID!, $f: RunFilter, $o: RunOrder) {
  workflow(id: $id) { runs(filter: $f, orderBy: $o) { totalCount nodes { id } } } }"""
INSERT = """
INSERT INTO runs (id, project_id, workflow_id, version_id, source, mode, status, inputs, options, created_by, lane,
    tags, error, created_at, started_at, finished_at)
SELECT 'run_' || lpad(n::text, 26, '0'), $3, $1, $2, 'MANUAL', 'ASYNC', CASE WHEN n % 3 = 0 THEN 'FAILED' WHEN n % 3 = 1
    THEN 'COMPLETED' ELSE 'QUEUED' END, '{}', '{"timeoutS": null, "breakpoints": [], "stepwise": false}', 'me', $3,
    CASE WHEN n % 4 = 0 THEN ARRAY['red', 'n' || n] ELSE '{}' END,
    CASE WHEN n % 3 = 0 THEN json_build_object('code', 'HTTP_STATUS', 'message', 'The server answered 50' || n % 10
        || ' with 100% \\_' || n, 'retryable', false, 'node_id', null, 'details', null) END,
    now(), now() - make_interval(secs => (n * 7919 % 11)),
    CASE WHEN n % 3 < 2 THEN now() + make_interval(secs => (n * 31 % 5)) END
FROM generate_series($4::int, $5::int) n
"""
ALL_ORDERS = [RunOrder(field, direction) for field in RunOrderField for direction in OrderDirection]


async def fill(context: Context, first: int, last: int, project: str, name: str = "Invoices 2030") -> str:
    workflow_id = await new_workflow(context, name=name)
    pool = context.database.pool
    await pool.execute(
        "INSERT INTO versions (id, project_id, workflow_id, number, spec, spec_hash, status, created_by) "
        "VALUES ('ver_' || $1, $2, $1, 7, '{}', $1, 'DRAFT', 'me')",
        workflow_id,
        project,
    )
    await pool.execute(INSERT, workflow_id, f"ver_{workflow_id}", project, first, last)
    return workflow_id


def in_order(rows: list[asyncpg.Record], order: RunOrder) -> list[str]:
    """Return the ids of the rows that the order has, in the order."""
    keys: dict[RunOrderField, Callable[[Any], Any]] = {
        RunOrderField.CREATED_AT: lambda row: (row["id"],),
        RunOrderField.FINISHED_AT: lambda row: (row["finished_at"], row["id"]),
        RunOrderField.DURATION: lambda row: (row["finished_at"] - row["started_at"], row["id"]),
    }
    kept = [row for row in rows if order.field is RunOrderField.CREATED_AT or row["finished_at"] is not None]
    ids = [row["id"] for row in sorted(kept, key=keys[order.field])]
    return ids if order.direction is OrderDirection.ASC else ids[::-1]


@pytest.fixture
async def two_projects(context: Context, project: str) -> str:
    """A second project of the caller. Each of the two has a workflow with runs."""
    async with context.database.begin() as connection:
        second = (await projects.create(connection, "second")).id
    await fill(context, 1, 20, project)
    context.caller.roles.update({second: Role.ADMIN})
    await context.database.pool.execute(INSERT, *await _foreign(context, second), second, 21, 40)
    context.loaders = Loaders(context.database, context.caller)
    return second


async def _foreign(context: Context, project: str) -> tuple[str, str]:
    row = await context.database.pool.fetchrow(
        "WITH w AS (INSERT INTO workflows (id, project_id, name) VALUES ('wf_other', $1, 'Order_% sync') RETURNING id) "
        "INSERT INTO versions (id, project_id, workflow_id, number, spec, spec_hash, status, created_by) "
        "SELECT 'ver_other', $1, id, 1, '{}', 'h', 'DRAFT', 'me' FROM w RETURNING workflow_id, id",
        project,
    )
    return row["workflow_id"], row["id"]


async def test_every_order_pages_in_both_directions_over_one_and_several_projects(
    context: Context, two_projects: str
) -> None:
    for project in (None, two_projects):
        rows = await context.database.pool.fetch(
            "SELECT * FROM runs WHERE $1::text IS NULL OR project_id = $1", project
        )
        for order in ALL_ORDERS:
            expected, asked = in_order(rows, order), {"field": order.field.value, "direction": order.direction.value}
            for count, after, size in (("n", "after", "endCursor"), ("last", "before", "startCursor")):
                found: list[str] = []
                cursor, goes_on = None, True
                while goes_on:
                    data = await call(context, LIST, project=project, o=asked, **{count: 7, after: cursor})
                    page = data["runs"]
                    ids = [edge["node"]["id"] for edge in page["edges"]]
                    found = [*found, *ids] if count == "n" else [*ids, *found]
                    cursor = page["pageInfo"][size]
                    goes_on = page["pageInfo"]["hasNextPage" if count == "n" else "hasPreviousPage"]
                assert found == expected, (project, order, count)
            assert (await call(context, TOTAL, o=asked))["runs"]["totalCount"] == len(
                in_order(await context.database.pool.fetch("SELECT * FROM runs"), order)
            )


async def test_a_cursor_of_another_order_is_refused_and_one_of_a_deleted_run_stays_valid(
    context: Context, two_projects: str
) -> None:
    ended = {"field": "FINISHED_AT"}
    cursors = [edge["cursor"] for edge in (await call(context, LIST, o=ended, n=3))["runs"]["edges"]]
    for other in ({"field": "DURATION"}, None):
        result = await schema.execute(LIST, variable_values={"o": other, "after": cursors[0]}, context_value=context)
        assert result.errors and (result.errors[0].extensions or {})["code"] == "VALIDATION"
    after = [
        edge["node"]["id"] for edge in (await call(context, LIST, o=ended, n=3, after=cursors[1]))["runs"]["edges"]
    ]
    deleted = (await call(context, LIST, o=ended, n=2))["runs"]["edges"][1]["node"]["id"]
    await context.database.pool.execute("DELETE FROM runs WHERE id = $1", deleted)
    again = [
        edge["node"]["id"] for edge in (await call(context, LIST, o=ended, n=3, after=cursors[1]))["runs"]["edges"]
    ]
    assert again == after


@pytest.mark.parametrize("has_trigrams", [True, False])
async def test_a_search_finds_errors_names_tags_and_ids_and_only_these(
    context: Context, two_projects: str, has_trigrams: bool
) -> None:
    pool = context.database.pool
    if not has_trigrams:
        await pool.execute("DROP EXTENSION pg_trgm CASCADE")
    rows = await pool.fetch("SELECT r.*, w.name FROM runs r JOIN workflows w ON w.id = workflow_id")
    some_id = rows[3]["id"]
    for search in ("ANSWERED 503", "http_status", "100% \\_9", "0% ", "_3", "nvoic", "order_%", "red", "n8", "re", "e",
                   some_id, "run_", "nothing", " red "):  # fmt: skip
        wanted = search.strip()
        expected = {
            row["id"]
            for row in rows
            if any(wanted.lower() in text.lower() for text in (_error(row), row["name"]))
            or wanted in row["tags"]
            or wanted == row["id"]
        }
        for order in (None, {"field": "DURATION"}, {"field": "FINISHED_AT", "direction": "ASC"}):
            data = await call(context, LIST, f={"search": search}, o=order, n=100)
            kept = {row["id"] for row in rows if order is None or row["finished_at"] is not None} & expected
            assert {edge["node"]["id"] for edge in data["runs"]["edges"]} == kept, (search, order)
            total = (await call(context, TOTAL, f={"search": search}, o=order))["runs"]
            assert total == {"totalCount": len(kept), "totalCountCapped": False}
    both = await call(context, LIST, f={"search": "503", "tags": ["red"]}, n=100)
    assert [edge["node"]["id"][-2:] for edge in both["runs"]["edges"]] == []
    of_workflow = await call(context, OF_WORKFLOW, id=rows[0]["workflow_id"], f={"search": "invoice"})
    assert of_workflow["workflow"]["runs"] == {"totalCount": 0, "nodes": []}
    of_workflow = await call(
        context, OF_WORKFLOW, id=rows[0]["workflow_id"], f={"search": "http"}, o={"field": "DURATION"}
    )
    assert of_workflow["workflow"]["runs"]["totalCount"] == len(of_workflow["workflow"]["runs"]["nodes"]) == 6


def _error(row: asyncpg.Record) -> str:
    error = row["error"] if isinstance(row["error"], dict | None) else orjson.loads(row["error"])
    return "" if error is None else f"{error['code']} {error['message']}"


@pytest.mark.parametrize("search", ["", "  ", "x" * 201])
async def test_a_search_without_a_text_or_with_a_long_one_is_refused(context: Context, search: str) -> None:
    result = await schema.execute(LIST, variable_values={"f": {"search": search}}, context_value=context)
    assert result.errors and (result.errors[0].extensions or {})["code"] == "VALIDATION"


async def test_lists_of_many_runs_use_indexes_and_count_only_when_asked(
    context: Context, database: Database, project: str
) -> None:
    workflow_id = await fill(context, 1, 30_000, project)
    await database.pool.execute("ANALYZE runs")
    filters = [
        {}, {"tags": ["n400"]}, {"tags": ["no"]}, {"error_code": ["NO"]}, {"trigger_id": "trg_no"}, {"duration_ms_min": 1e9},
        {"search": "answered 503 with 100% \\_23133"}, {"search": "nowhere"}, {"search": "n400"}, {"search": "invoices"},
        {"workflow_id": "wf_no"}, {"status": ["CANCELLED"]}, {"status": ["PAUSED", "PENDING"]},
        {"status": ["QUEUED"]}, {"status": ["FAILED", "WAITING", "RUNNING"], "workflow_id": "wf_no"}, {"status": []},
    ]  # fmt: skip
    for where in filters:
        for order in ALL_ORDERS[1::2]:
            list_ = RunList([project], RunFilter(**where))  # type: ignore[arg-type]
            for query in (list_.page(RunRange(25, sort=order)), list_.counted(RunRange(25, sort=order))):
                plan = await _plan(database.connect(), query)
                assert _scans(plan) == [], (where, order, plan)
                if not barrier.needs_index(list_.counted(RunRange(25, sort=order))):
                    behind = await _plan(database.read([project]), query)
                    assert _indexes(behind) == _indexes(plan), (where, order, behind)
    counted = (await call(context, TOTAL))["runs"]
    assert counted == {"totalCount": 10_000, "totalCountCapped": True}
    async with count_statements(database) as statements:
        await call(context, LIST, n=25)
    assert not [statement for statement in statements if "count(" in statement]
    assert (await call(context, OF_WORKFLOW, id=workflow_id))["workflow"]["runs"]["totalCount"] == 10_000


def _scans(plan: dict[str, Any]) -> list[str]:
    """Return the sequential scans of runs in a plan whose result is not cut off by the size of a page."""
    own = [plan["Node Type"]] if plan["Node Type"] == "Seq Scan" and plan.get("Relation Name") == "runs" else []
    return own + [scan for inner in plan.get("Plans", ()) for scan in _scans(inner)]


async def _plan(opened: AbstractAsyncContextManager[AsyncConnection], query: Select[Any]) -> dict[str, Any]:
    async with opened as connection:
        compiled = query.compile(connection.sync_engine, compile_kwargs={"literal_binds": True})
        [plan] = (await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}")).scalar_one()
    outermost: dict[str, Any] = plan["Plan"]
    return outermost


def _indexes(plan: dict[str, Any]) -> list[str]:
    """Return the indexes that a plan uses, and its sequential scans of runs."""
    own = [plan["Index Name"]] if "Index Name" in plan else []
    return _scans(plan) + own + [name for inner in plan.get("Plans", ()) for name in _indexes(inner)]
