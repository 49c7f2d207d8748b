"""Values that are invalid, too many or out of range get a clear error and reach no store."""

import base64
import time
from typing import Any

import pytest

from resolvers.context import Context
from schema.schema import schema
from tests.schema_client import call, mutate, new_workflow

RUN = "mutation($i: RunWorkflowInput!) { runWorkflow(input: $i) { run { id } errors { code } } }"


NOT_OF_THIS_LIST = "after: is not a cursor of this list: pass one from its `pageInfo` or `edges`"


async def error_of(context: Context, query: str, /, **variables: Any) -> tuple[str, str]:
    """Return (code, message) of the only error of an operation."""
    result = await schema.execute(query, variable_values=variables, context_value=context)
    [error] = result.errors or []
    assert error.extensions is not None
    return str(error.extensions["code"]), error.message


async def new_run(context: Context) -> str:
    workflow_id = await new_workflow(context)
    payload = await mutate(context, "runWorkflow", "run { id }", workflowId=workflow_id, inputs={"value": 1})
    run_id: str = payload["run"]["id"]
    return run_id


def cursor(id: str) -> str:
    return base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("kind", "mutation", "input"),
    [
        ("RunWorkflowInput", "runWorkflow", {"workflowId": ""}),
        ("RunWorkflowInput", "runWorkflow", {"workflowId": "wf_1", "versionId": ""}),
        ("CreateWorkflowInput", "createWorkflow", {"name": "w", "projectId": ""}),
        ("ResumeRunInput", "resumeRun", {"runId": "run_1", "checkpointId": ""}),
        ("ResumeRunInput", "resumeRun", {"runId": "run_1", "waitId": "", "answer": 1}),
        ("ForkRunInput", "forkRun", {"checkpointId": "ckp_1", "versionId": ""}),
        ("SetBreakpointsInput", "setBreakpoints", {"runId": "run_1", "nodeIds": ["a", ""]}),
        ("RunAdhocInput", "runAdhoc", {"spec": {}, "options": {"breakpoints": [""]}}),
    ],
)
async def test_an_empty_id_in_a_variable_is_refused_and_not_read_as_absent(
    context: Context, kind: str, mutation: str, input: dict[str, Any]
) -> None:
    query = f"mutation($i: {kind}!) {{ {mutation}(input: $i) {{ errors {{ code }} }} }}"
    code, message = await error_of(context, query, i=input)
    assert code == "VALIDATION" and "$i" in message and "must not be empty" in message


async def test_an_empty_id_in_the_text_is_refused_as_well(context: Context) -> None:
    for query in (
        '{ run(id: "") { id } }',
        '{ nodes(ids: ["run_1", ""]) { id } }',
        '{ runs(projectId: "") { nodes { id } } }',
    ):
        code, message = await error_of(context, query)
        assert code == "VALIDATION" and "must not be empty" in message


@pytest.mark.parametrize("first", [0, 101, -1, 2**31 - 1])
async def test_a_page_has_1_to_100_items(context: Context, first: int) -> None:
    run_id = await new_run(context)
    for query in (
        "query($n: Int) { runs(first: $n) { nodes { id } } }",
        "query($n: Int) { workflows(first: $n) { nodes { id } } }",
        "query($n: Int) { projects(first: $n) { nodes { id } } }",
        f'query($n: Int) {{ run(id: "{run_id}") {{ checkpoints(first: $n) {{ nodes {{ id }} }} }} }}',
        f'query($n: Int) {{ run(id: "{run_id}") {{ derivedRuns(first: $n) {{ nodes {{ id }} }} }} }}',
    ):
        assert await error_of(context, query, n=first) == ("VALIDATION", f"first: must be from 1 to 100, is {first}")


async def test_a_page_of_events_has_1_to_1000_numbers_from_0_on(context: Context) -> None:
    run_id = await new_run(context)
    for arguments, says in {
        "first: 0": "first: must be from 1 to 1000, is 0",
        "first: 1001": "first: must be from 1 to 1000, is 1001",
        "last: 0": "last: must be from 1 to 1000, is 0",
        "first: 1, last: 1": "last: cannot be used together with `first`: send one of them",
        "after: -1": "after: must be the number of an event, or 0, is -1",
        "last: 1, before: -1": "before: must be the number of an event, or 0, is -1",
    }.items():
        for field in ("events", "logs"):
            query = f'{{ run(id: "{run_id}") {{ {field}({arguments}) {{ nodes {{ seq }} }} }} }}'
            assert await error_of(context, query) == ("VALIDATION", says)


@pytest.mark.parametrize(
    "cursor_text", ["", "?", "zzz", cursor("no id"), cursor("trg_01m7z03e3ye7gtyh1qv8cyh8gb"), "ü", "=" * 9]
)
async def test_text_that_is_no_cursor_is_refused(context: Context, cursor_text: str) -> None:
    run_id = await new_run(context)
    for query in (
        "query($c: String) { runs(after: $c) { nodes { id } } }",
        "query($c: String) { workflows(after: $c) { nodes { id } } }",
        f'query($c: String) {{ run(id: "{run_id}") {{ checkpoints(after: $c) {{ nodes {{ id }} }} }} }}',
    ):
        assert await error_of(context, query, c=cursor_text) == ("VALIDATION", NOT_OF_THIS_LIST)


async def test_a_cursor_of_another_list_is_refused(context: Context) -> None:
    run_id = await new_run(context)
    run = (
        await call(context, f'{{ run(id: "{run_id}") {{ id workflow {{ id }} version {{ id }} project {{ id }} }} }}')
    )["run"]
    workflow_id = run["workflow"]["id"]
    ids = {"runs": run_id, "workflows": workflow_id, "projects": run["project"]["id"], "versions": run["version"]["id"]}
    lists = {
        "runs": "query($c: String) { runs(after: $c) { nodes { id } } }",
        "workflows": "query($c: String) { workflows(after: $c) { nodes { id } } }",
        "projects": "query($c: String) { projects(after: $c) { nodes { id } } }",
        "versions": f'query($c: String) {{ workflow(id: "{workflow_id}") {{ versions(after: $c) {{ nodes {{ id }} }} }} }}',
    }
    for name, query in lists.items():
        assert await call(context, query, c=cursor(ids[name]))
        for other in lists.keys() - {name}:
            assert await error_of(context, query, c=cursor(ids[other])) == (
                "VALIDATION",
                NOT_OF_THIS_LIST,
            )


@pytest.mark.parametrize("after", [-1, 2, 2**31 - 1])
async def test_a_subscription_after_an_event_that_does_not_exist_is_refused(context: Context, after: int) -> None:
    run_id = await new_run(context)
    for field, answer in (("nodeStates", "seq"), ("runEvents", "seq")):
        query = f"subscription($r: ID!, $a: Int) {{ {field}(runId: $r, after: $a) {{ {answer} }} }}"
        stream = await schema.subscribe(query, variable_values={"r": run_id, "a": after}, context_value=context)
        [result] = [result async for result in stream]
        [error] = result.errors or []
        assert error.extensions is not None and error.extensions["code"] == "VALIDATION"
        assert f"is {after}" in error.message and error.message.startswith("after: ")


async def test_lists_of_a_project_of_another_user_answer_not_found(context: Context) -> None:
    for field in ("runs", "workflows"):
        code, message = await error_of(context, f'{{ {field}(projectId: "prj_1") {{ nodes {{ id }} }} }}')
        assert code == "NOT_FOUND" and "prj_1" in message


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("2026-01-01", "has no time zone"),
        ("yesterday", "is not a DateTime"),
        ("0001-01-01T00:00:00+23:59", "is not a DateTime"),
        ("9999-12-31T23:59:59-23:59", "is not a DateTime"),
        (5, "is a string in RFC 3339 format"),
    ],
)
async def test_a_value_that_is_no_time_is_refused(context: Context, value: object, says: str) -> None:
    query = "query($m: DateTime) { runs(filter: { createdAfter: $m }) { nodes { id } } }"
    code, message = await error_of(context, query, m=value)
    assert code == "VALIDATION" and says in message


@pytest.mark.parametrize(
    ("query", "variables", "path"),
    [
        ("query($s: [RunStatus!]) { runs(filter: {status: $s}) { nodes { id } } }", {"s": ["FAILED"] * 300_000}, "$s"),
        (
            "query($f: RunFilter) { runs(filter: $f) { nodes { id } } }",
            {"f": {"source": ["FORK"] * 300_000}},
            "$f.source",
        ),
        ("query($s: [ID!]!) { nodes(ids: $s) { id } }", {"s": ["a"] * 500_000}, "$s"),
        ("query($s: [ID!]!) { nodes(ids: $s) { id } }", {"s": [{}] * 500_000}, "$s"),
        (RUN, {"i": {"workflowId": "w", "options": {"breakpoints": ["x"] * 300_000}}}, "$i.options.breakpoints"),
        (RUN, {"i": {f"k{number}": 1 for number in range(200_000)}}, "$i"),
    ],
)
async def test_more_values_than_any_field_takes_are_refused_before_coercion(
    context: Context, query: str, variables: dict[str, Any], path: str
) -> None:
    started = time.process_time()
    code, message = await error_of(context, query, **variables)
    assert time.process_time() - started < 0.5
    assert code == "LIMIT" and message.startswith(f"{path} has ") and "over the limit of 1,000" in message


async def test_a_message_that_quotes_input_is_bounded(context: Context) -> None:
    query = "query($s: [RunStatus!]) { runs(filter: { status: $s }) { nodes { id } } }"
    code, message = await error_of(context, query, s="a" * 1_000_000)
    assert code == "VALIDATION" and len(message) <= 2000
    # UTF-8 cannot encode a lone surrogate, which a key may hold.
    result = await schema.execute(RUN, variable_values={"i": {"workflowId": "w", "\ud800": 1}}, context_value=context)
    assert result.errors is not None and result.errors[0].message.encode()


async def test_a_repeat_with_another_timeout_is_the_same_call(context: Context) -> None:
    workflow_id = await new_workflow(context)
    input = {"workflowId": workflow_id, "inputs": {"value": 1}, "idempotencyKey": "k"}
    first = await mutate(context, "runWorkflow", "run { id }", **input, timeoutMs=1)
    again = await mutate(context, "runWorkflow", "run { id }", **input, timeoutMs=60_000)
    other = await mutate(context, "runWorkflow", "run { id }", **{**input, "inputs": {"value": 2}})
    assert first["run"] == again["run"] is not None
    assert other["errors"][0]["code"] == "CONFLICT"
