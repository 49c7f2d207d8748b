"""Tags of runs, and the filters of lists by tag, error code and duration."""

from typing import Any

import pytest

from engine.sdk.resources import ChildRun
from persistence.db.database import Database
from persistence.runs.children import Children
from resolvers.context import Context
from schema.schema import schema
from tests.schema_client import new_workflow

RUN = "mutation($i: RunAdhocInput!) { runAdhoc(input: $i) { run { id options { tags } } errors { ...P } } }" + (
    " fragment P on ValidationProblem { errors { field message } }"
)
RETRY = "mutation($i: RetryRunInput!) { retryRun(input: $i) { run { options { tags } } errors { detail } } }"
LIST = "query($f: RunFilter) { runs(filter: $f) { nodes { id } } }"
SPEC = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}


async def execute(context: Context, query: str, **variables: Any) -> Any:
    result = await schema.execute(query, variable_values=variables, context_value=context)
    assert result.errors is None, result.errors
    return result.data


async def start(context: Context, tags: list[str] | None = None, inputs: Any = None) -> Any:
    options = None if tags is None else {"tags": tags}
    return (await execute(context, RUN, i={"spec": SPEC, "inputs": inputs or {}, "options": options}))["runAdhoc"]


async def test_tags_are_stored_in_order_and_inherited_by_retries_unless_they_have_their_own(
    context: Context, database: Database
) -> None:
    run = (await start(context, ["b", "a", "b"]))["run"]
    assert run["options"]["tags"] == ["b", "a"]
    assert (await start(context))["run"]["options"]["tags"] == []
    await database.pool.execute("UPDATE runs SET status = 'COMPLETED', finished_at = now(), output = '1'")
    for options, expected in [
        (None, ["b", "a"]),
        ({"priority": 1}, ["b", "a"]),
        ({"tags": []}, []),
        ({"tags": ["c"]}, ["c"]),
    ]:
        retried = await execute(context, RETRY, i={"runId": run["id"], "from": "START", "options": options})
        assert retried["retryRun"]["run"]["options"]["tags"] == expected, retried


@pytest.mark.parametrize(
    ("tags", "field"),
    [
        ([str(number) for number in range(21)], "input.options.tags"),
        (["good", ""], "input.options.tags[1]"),
        (["x" * 65], "input.options.tags[0]"),
        ([" padded"], "input.options.tags[0]"),
        (["two\nlines"], "input.options.tags[0]"),
    ],
)
async def test_tags_that_are_too_many_too_long_or_not_printable_are_refused(
    context: Context, tags: list[str], field: str
) -> None:
    [problem] = (await start(context, tags))["errors"]
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, {"one", "two", "three"}),
        ({"tags": ["red"]}, {"one", "two"}),
        ({"tags": ["red", "blue"]}, {"two"}),
        ({"tags": ["green"]}, set()),
        ({"errorCode": ["MINE", "OTHER"]}, {"two"}),
        ({"errorCode": []}, set()),
        ({"durationMsMin": 500}, {"one", "two"}),
        ({"durationMsMin": 500, "durationMsMax": 1500}, {"one"}),
    ],
)
async def test_a_list_has_the_runs_that_match_every_part_of_its_filter(
    context: Context, database: Database, filter: dict[str, Any], expected: set[str]
) -> None:
    made = {
        "one": await start(context, ["red"], {"name": "Order 100% done"}),
        "two": await start(context, ["red", "blue"], {"name": "nothing"}),
        "three": await start(context, None, {"name": "still active"}),
    }
    ids = {payload["run"]["id"]: name for name, payload in made.items()}
    end = "UPDATE runs SET status = $2, started_at = now() - make_interval(secs => $3), finished_at = now(), error = $4"
    by_name = {name: run_id for run_id, name in ids.items()}
    error = {"code": "MINE", "message": "No such PLANET", "node_id": None, "retryable": False, "details": None}
    await database.pool.execute(f"{end} WHERE id = $1", by_name["one"], "COMPLETED", 1.0, None)
    await database.pool.execute(f"{end} WHERE id = $1", by_name["two"], "FAILED", 2.0, error)
    data = await execute(context, LIST, f=filter)
    assert {ids[node["id"]] for node in data["runs"]["nodes"]} == expected


@pytest.mark.parametrize("filter", [{"durationMsMin": -1}, {"durationMsMax": 1e300}])
async def test_a_filter_out_of_range_is_refused(context: Context, filter: dict[str, Any]) -> None:
    result = await schema.execute(LIST, variable_values={"f": filter}, context_value=context)
    assert result.errors is not None and result.errors[0].extensions["code"] == "VALIDATION"  # type: ignore[index]


async def test_a_child_run_has_the_tags_of_its_parent(context: Context, database: Database) -> None:
    workflow_id = await new_workflow(context, SPEC)
    parent = (await start(context, ["red"]))["run"]

    children = Children(database, context.redis, context.notifier.notify_queue)
    child_id = await children.start(ChildRun(parent["id"], "0/a/1", workflow_id, None, {}))
    assert await database.pool.fetchval("SELECT tags FROM runs WHERE id = $1", child_id) == ["red"]
