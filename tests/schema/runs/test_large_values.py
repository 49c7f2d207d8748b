"""Large inputs and outputs: no row contains them, and whoever asks for them gets them unchanged."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from engine.nodes.registry import load_node_types
from persistence.db.json_text import LARGE_VALUE
from persistence.db.response_budget import MAX_BYTES
from persistence.runs.run import run_of
from resolvers.context import Context
from resolvers.runs.start import StartArguments, run_workflow, wait_until_idle
from schema.schema import schema
from tests.schema_client import mutate, new_workflow
from tests.statement_counter import count_statements
from tests.worker.running_worker import running

LARGE = {"é": ["ü\u2028\"'\\", 1.5, None] * 4000, "small": 1}
"""45 KB as JSON, and a few hundred bytes in the store, as they compress well."""
RANDOM = {"x": [n * 7919 % 10_007 for n in range(12_000)]}
"""60 KB as JSON, which compress badly."""
PASSED_ON = {
    "nodes": [{"id": "a", "type": "transform", "config": {"output": "{{ input }}"}}],
    "edges": [{"source": "__start__", "target": "a", "condition": "input | length > 0"}],
}
RUN = """query($id: ID!) { run(id: $id) { status inputs output edgeStates { status }
  nodeStates { input output } } }"""
LISTS = ("{ runs { nodes { inputs output } } }", "{ workflows { nodes { runs { nodes { inputs output } } } } }")


FILTERED = (
    '{ runs(filter: {tags: ["t"]}) { nodes { inputs } } }',
    '{ runs(filter: {search: "t"}) { nodes { inputs } } }',
    "{ runs(filter: {durationMsMin: 0}) { nodes { inputs } } }",
)


async def shown(context: Context, query: str, **variables: Any) -> Any:
    """Return the data as a client reads it."""
    result = await schema.execute(query, variable_values=variables, context_value=context)
    assert not result.errors, result.errors
    return orjson.loads(orjson.dumps(result.data))


@asynccontextmanager
async def spied_runs() -> AsyncIterator[list[Any]]:
    """Collect the inputs of each row of a run that is decoded."""
    seen: list[Any] = []

    def decode(row: Any) -> Any:
        seen.append(row["inputs"])
        return run_of(row)

    with pytest.MonkeyPatch.context() as patch:
        for module in [
            one for name, one in sys.modules.items() if name.startswith("persistence.") and hasattr(one, "run_of")
        ]:
            patch.setattr(module, "run_of", decode)
        yield seen


async def finished(context: Context, redis: Redis, inputs: Any) -> str:
    workflow_id = await new_workflow(context, PASSED_ON)
    run = await run_workflow(context, StartArguments(workflow_id, inputs=inputs))
    async with running(context.database, redis, load_node_types()) as runner:
        runner.poll()
        await wait_until_idle(context, run, 20_000)
    return run.id


async def test_a_large_value_is_read_unchanged_wherever_it_is_selected(context: Context, redis: Redis) -> None:
    for inputs in (LARGE, RANDOM):
        run_id = await finished(context, redis, inputs)
        run = (await shown(context, RUN, id=run_id))["run"]
        assert run["status"] == "COMPLETED"
        assert (run["inputs"], run["output"]) == (inputs, {"a": inputs})
        assert [state["output"] for state in run["nodeStates"]] == [inputs]
        assert [edge["status"] for edge in run["edgeStates"]] == ["TAKEN"], "the condition has not seen the inputs"
        by_runs, by_workflows = [await shown(context, query) for query in LISTS]
        newest = by_runs["runs"]["nodes"][0]
        assert newest == {"inputs": inputs, "output": {"a": inputs}}
        assert newest in [run for workflow in by_workflows["workflows"]["nodes"] for run in workflow["runs"]["nodes"]]


async def test_retries_and_comparisons_use_large_values(context: Context, redis: Redis) -> None:
    run_id = await finished(context, redis, LARGE)
    retry = await mutate(context, "retryRun", "run { id }", runId=run_id, **{"from": "START"})
    assert retry["errors"] == []
    repeated = (await shown(context, RUN, id=retry["run"]["id"]))["run"]
    assert repeated["inputs"] == LARGE
    query = "query($a: ID!, $b: ID!) { compareRuns(a: $a, b: $b) { inputDiff { path } outputDiff { path after } } }"
    found = (await shown(context, query, a=run_id, b=retry["run"]["id"]))["compareRuns"]
    assert found["inputDiff"] == []
    assert found["outputDiff"], "the retry has no output yet"


async def test_a_list_reads_large_values_only_if_they_are_selected_and_stops_at_the_limit(context: Context) -> None:
    workflow_id = await new_workflow(context, PASSED_ON)
    count, size = 20, MAX_BYTES // 3
    for _ in range(count):
        await run_workflow(context, StartArguments(workflow_id, inputs={}))
    await context.database.pool.execute("UPDATE runs SET inputs = to_json(repeat('x', $1))", size)
    async with count_statements(context.database) as without:
        assert len((await shown(context, "{ runs { nodes { id status } } }"))["runs"]["nodes"]) == count
    async with count_statements(context.database) as statements:
        result = await schema.execute("{ runs { nodes { inputs } } }", context_value=context)
    assert result.data is None
    assert [error.extensions["code"] for error in result.errors or []] == ["LIMIT"]
    assert len(statements) <= len(without) + 8, "values that do not fit into the response were read"


async def test_a_list_by_any_filter_and_a_command_read_the_row_without_its_large_values(
    context: Context, redis: Redis
) -> None:
    run_id = await finished(context, redis, RANDOM)
    await context.database.pool.execute("UPDATE runs SET tags = '{t}' WHERE id = $1", run_id)
    async with spied_runs() as seen:
        for query in FILTERED:
            assert (await shown(context, query))["runs"]["nodes"] == [{"inputs": RANDOM}], query
        retry = await mutate(context, "retryRun", "run { id inputs }", runId=run_id, **{"from": "START"})
        cancelled = await mutate(context, "cancelRun", "run { status inputs }", runId=retry["run"]["id"])
    assert (cancelled["run"]["status"], orjson.loads(orjson.dumps(cancelled["run"]["inputs"]))) == ("CANCELLED", RANDOM)
    assert len(seen) >= 5
    assert set(seen) == {LARGE_VALUE}, "a row was read with its large value"
