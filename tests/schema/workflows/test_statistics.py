"""The fields of `stats`, read as a client does, of runs that a worker has executed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.nodes.registry import load_node_types
from persistence.db.database import Database
from persistence.statistics.folding import fold
from resolvers.context import Context
from resolvers.runs.start import StartArguments, run_workflow, wait_until_idle
from schema.schema import schema
from tests.schema_client import call, mutate, new_workflow
from tests.worker.running_worker import running

SPEC = {
    "nodes": [
        {"id": "check", "type": "conditional", "config": {"condition": "input.ok"}},
        {"id": "no", "type": "fail", "config": {"code": "NO", "message": "Not today"}},
        {"id": "end", "type": "end", "config": {"output": 1}},
    ],
    "edges": [
        {"source": "check", "target": "end", "port": "true"},
        {"source": "check", "target": "no", "port": "false"},
    ],
}
FIELDS = """{ total completed failed cancelled active successRate p50Ms p95Ms queueP95Ms inputTokens outputTokens costUsd
  failuresByCode { code count } series { start total completed failed cancelled }
  nodes { nodeId type runs failed } slowestNodes(first: 1) { nodeId p95Ms } failingNodes { nodeId failed } }"""
STATS = f"""query ($id: ID, $since: DateTime, $until: DateTime, $bucket: Bucket! = DAY) {{
  stats(workflowId: $id, since: $since, until: $until, bucket: $bucket) {FIELDS} }}"""
OF_WORKFLOW = f"query ($id: ID!) {{ workflow(id: $id) {{ stats {FIELDS} }} }}"


async def test_statistics_show_what_has_run(context: Context, database: Database, redis: Redis) -> None:
    workflow_id = await new_workflow(context, SPEC)
    async with running(database, redis, load_node_types()) as runner:
        started = [
            await run_workflow(context, StartArguments(workflow_id, inputs={"ok": ok})) for ok in (True, False, True)
        ]
        runner.poll()
        for run in started:
            assert (await wait_until_idle(context, run, 20_000)).finished_at is not None
    await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id, inputs={"ok": True})
    for is_folded in (False, True):
        if is_folded:
            assert await fold(database.pool) == 3
        for stats in (
            (await call(context, STATS, id=workflow_id))["stats"],
            (await call(context, f"query ($id: ID!) {{ workflow(id: $id) {{ stats {FIELDS} }} }}", id=workflow_id))[
                "workflow"
            ]["stats"],
        ):
            counts = {
                name: stats[name] for name in ("total", "completed", "failed", "cancelled", "active", "successRate")
            }
            assert counts == {
                "total": 4,
                "completed": 2,
                "failed": 1,
                "cancelled": 0,
                "active": 1,
                "successRate": 2 / 3,
            }
            assert stats["failuresByCode"] == [{"code": "NO", "count": 1}]
            assert len(stats["series"]) == 31 and sum(point["total"] for point in stats["series"]) == 3
            assert {(node["nodeId"], node["type"], node["runs"], node["failed"]) for node in stats["nodes"]} == {
                ("check", "conditional", 3, 0), ("no", "fail", 1, 1), ("end", "end", 2, 0),
            }  # fmt: skip
            assert stats["failingNodes"] == [{"nodeId": "no", "failed": 1}] and len(stats["slowestNodes"]) == 1
            assert stats["p50Ms"] <= stats["p95Ms"] and stats["queueP95Ms"] > 0
    whole = (await call(context, STATS))["stats"]
    assert (whole["total"], whole["nodes"]) == (4, [])
    hours = (await call(context, STATS, bucket="HOUR", since=(datetime.now(UTC) - timedelta(hours=3)).isoformat()))[
        "stats"
    ]
    assert len(hours["series"]) == 4 and hours["series"][-1]["total"] == 3


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"since": "2100-01-01T00:00:00Z"}, "since"),
        ({"since": "2030-01-02T00:00:00Z", "until": "2030-01-01T00:00:00Z"}, "since"),
        ({"since": "2020-01-01T00:00:00Z", "bucket": "HOUR"}, "bucket"),
        ({"since": "0001-01-01T00:00:00Z"}, "bucket"),
        ({"until": "0001-01-01T00:00:00Z"}, "until"),
        ({"since": "0001-01-01T00:00:00Z", "until": "2000-01-01T00:00:00Z"}, "until"),
    ],
)
async def test_a_period_that_has_no_statistics_is_refused(
    context: Context, arguments: dict[str, Any], field: str
) -> None:
    result = await schema.execute(STATS, variable_values=arguments, context_value=context)
    [error] = result.errors or []
    extensions: dict[str, Any] = error.extensions or {}
    assert (extensions["code"], [one["field"] for one in extensions["errors"]]) == ("VALIDATION", [field])
