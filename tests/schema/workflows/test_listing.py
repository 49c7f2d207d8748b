"""Nested lists: the number of SQL statements does not grow with the number of rows."""

from typing import Any

import pytest

from resolvers.context import Context
from tests.schema_client import call, mutate, new_workflow, with_output
from tests.statement_counter import count_statements

LISTS = """query($first: Int!) { workflows(first: $first) { nodes { id
    versions(first: 2) { nodes { number runs(first: 1) { nodes { id } } } pageInfo { hasNextPage } }
    published: versions(first: 2, status: PUBLISHED) { nodes { number } }
    version(number: 1) { number }
    runs(first: 2) { nodes { id status } pageInfo { hasNextPage } }
    failed: runs(first: 2, filter: {status: [FAILED]}) { nodes { id } }
} } }"""


async def workflow_with_runs(context: Context, name: str) -> str:
    """Create a workflow with three versions, the last one published, and a run of each."""
    workflow_id = await new_workflow(context, name=name)
    for revision, output in enumerate(("a", "b", "c"), start=1):
        await mutate(
            context,
            "saveDraft",
            "draft { id }",
            workflowId=workflow_id,
            spec=with_output(f"{name} {output}"),
            expectedRevision=revision,
        )
        await mutate(context, "createVersion", "version { id }", workflowId=workflow_id, publish=output == "c")
        await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id, inputs={"value": 1})
    return workflow_id


async def test_a_list_of_workflows_needs_one_statement_a_field_and_none_a_row(context: Context) -> None:
    costs: list[int] = []
    for name in ("one", "two", "three", "four"):
        await workflow_with_runs(context, name)
        async with count_statements(context.database) as statements:
            await call(context, LISTS, first=10)
        costs.append(len(statements))
    assert costs[0] == costs[-1] <= 12


async def test_every_workflow_gets_its_own_page(context: Context) -> None:
    created = [await workflow_with_runs(context, name) for name in ("one", "two", "three")]
    empty = await new_workflow(context, name="empty")
    nodes: list[dict[str, Any]] = (await call(context, LISTS, first=10))["workflows"]["nodes"]
    assert [node["id"] for node in nodes] == [empty, *reversed(created)]
    for node in nodes[1:]:
        assert [version["number"] for version in node["versions"]["nodes"]] == [3, 2]
        assert node["versions"]["pageInfo"]["hasNextPage"] and node["runs"]["pageInfo"]["hasNextPage"]
        assert node["published"]["nodes"] == [{"number": 3}] and node["version"] == {"number": 1}
        assert len(node["runs"]["nodes"]) == 2 and node["failed"]["nodes"] == []
        [newest] = node["versions"]["nodes"][0]["runs"]["nodes"]
        assert newest["id"] == node["runs"]["nodes"][0]["id"]
    assert nodes[0]["versions"] == {"nodes": [], "pageInfo": {"hasNextPage": False}}


async def test_the_pages_of_a_list_join_without_gap_or_overlap(context: Context) -> None:
    workflow_id = await workflow_with_runs(context, "one")
    query = """query($id: ID!, $after: String) { workflow(id: $id) {
        runs(first: 2, after: $after) { nodes { id } pageInfo { endCursor hasNextPage hasPreviousPage } } } }"""
    run_ids: list[str] = []
    after: str | None = None
    while True:
        page = (await call(context, query, id=workflow_id, after=after))["workflow"]["runs"]
        run_ids += [run["id"] for run in page["nodes"]]
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert len(set(run_ids)) == len(run_ids) == 3


@pytest.mark.parametrize("invalid", ["nonsense", "!!"])
async def test_an_invalid_cursor_fails_only_its_own_field(context: Context, invalid: str) -> None:
    from schema.schema import schema

    workflow_id = await workflow_with_runs(context, "one")
    query = f"""query($id: ID!) {{ workflow(id: $id) {{ good: runs {{ nodes {{ id }} }} }}
        other: workflow(id: $id) {{ bad: runs(after: "{invalid}") {{ nodes {{ id }} }} }} }}"""
    result = await schema.execute(query, variable_values={"id": workflow_id}, context_value=context)
    assert result.errors is not None and [error.path for error in result.errors] == [["other", "bad"]]
    assert result.data is not None and len(result.data["workflow"]["good"]["nodes"]) == 3


@pytest.mark.parametrize("text", ["a\0b", "half \ud83d"])
async def test_text_that_cannot_be_stored_is_refused_in_every_argument(context: Context, text: str) -> None:
    from schema.schema import schema

    operations: list[tuple[str, dict[str, Any]]] = [
        ("query($t: String!) { workflows(search: $t) { nodes { id } } }", {"t": text}),
        ("query($t: ID!) { workflow(id: $t) { id } }", {"t": text}),
        ("query($t: ID!) { run(id: $t) { id } }", {"t": text}),
        (
            "mutation($t: CreateWorkflowInput!) { createWorkflow(input: $t) { workflow { id } } }",
            {"t": {"name": text}},
        ),
        (
            "mutation($t: CancelRunInput!) { cancelRun(input: $t) { run { id } } }",
            {"t": {"runId": "run_1", "reason": text}},
        ),
    ]
    for query, variables in operations:
        result = await schema.execute(query, variable_values=variables, context_value=context)
        [error] = result.errors or []
        assert (error.extensions or {})["code"] == "VALIDATION"
        assert "contains" in error.message and "$t" in error.message
    literal = text.encode("unicode_escape").decode().replace("\\x00", "\\u0000")
    if "\\ud" not in literal:  # The parser refuses a lone surrogate by itself.
        result = await schema.execute(f'{{ run(id: "{literal}") {{ id }} }}', context_value=context)
        assert result.errors is not None and "NUL" in result.errors[0].message
