"""Runs through the schema and real stores, by operations as clients write them."""

from typing import Any

import pytest
from strawberry.types import ExecutionResult

from engine.events import LogRecorded, RunError
from engine.states import LogLevel, NodeStatus
from persistence.db.ids import new_id
from persistence.maintenance.retention import prune_history
from resolvers.context import Context
from schema.schema import schema
from tests.journal_worker import SPEC, JournalWorker


async def execute(context: Context, text: str, **variables: Any) -> Any:
    result = await schema.execute(text, variable_values=variables, context_value=context)
    assert result.errors is None, result.errors
    return result.data


async def listen(context: Context, text: str, **variables: Any) -> list[Any]:
    stream = await schema.subscribe(text, variable_values=variables, context_value=context)
    assert not isinstance(stream, ExecutionResult), stream
    items = []
    async for result in stream:
        assert not result.errors, result.errors
        items.append(result.data)
    return items


RUN = """mutation ($spec: JSON!, $inputs: JSON) {
  runAdhoc(input: {spec: $spec, inputs: $inputs}) {
    run { id status taskId availableActions version { number } workflow { id } project { name } options { priority } }
    errors { code detail ... on ValidationProblem { errors { field code } } }
  }
}"""


async def start(context: Context) -> str:
    data = await execute(context, RUN, spec=SPEC, inputs={"n": 1})
    assert data["runAdhoc"]["errors"] == []
    return str(data["runAdhoc"]["run"]["id"])


async def test_an_accepted_run_has_its_fields(context: Context) -> None:
    run = (await execute(context, RUN, spec=SPEC, inputs={}))["runAdhoc"]["run"]
    assert run["status"] == "QUEUED"
    assert run["taskId"] == f"{run['id']}/1"
    assert run["availableActions"] == ["CANCEL", "PAUSE"]
    assert (run["version"], run["workflow"], run["project"]) == ({"number": 0}, None, {"name": "default"})


async def test_invalid_inputs_are_returned_as_problems(context: Context) -> None:
    spec = {**SPEC, "inputs": {"type": "object", "required": ["who"]}}
    (problem,) = (await execute(context, RUN, spec=spec, inputs={}))["runAdhoc"]["errors"]
    assert problem["code"] == "VALIDATION"
    assert problem["errors"] == [{"field": "inputs", "code": "REQUIRED"}]


async def test_a_run_is_created_executed_and_cancelled(context: Context) -> None:
    workflow = await execute(
        context,
        'mutation ($spec: JSON!) { createWorkflow(input: {name: "w", spec: $spec}) { workflow { id } } }',
        spec=SPEC,
    )
    created = await execute(
        context,
        "mutation ($id: ID!) { createRun(input: {workflowId: $id}) "
        "{ run { id status deadlineAt version { number status } } errors { detail } } }",
        id=workflow["createWorkflow"]["workflow"]["id"],
    )
    run = created["createRun"]["run"]
    assert (run["status"], run["version"]) == ("PENDING", {"number": 0, "status": "DRAFT"})
    assert run["deadlineAt"] is not None
    execute_run = """mutation ($id: ID!) { executeRun(input: {runId: $id, inputs: {n: 2}}) {
        run { status inputs } errors { code ... on InvalidStateProblem { runStatus } } } }"""
    assert (await execute(context, execute_run, id=run["id"]))["executeRun"]["run"] == {
        "status": "QUEUED",
        "inputs": {"n": 2},
    }
    cancel = 'mutation ($id: ID!) { cancelRun(input: {runId: $id, reason: "no"}) { run { status statusMessage } } }'
    assert (await execute(context, cancel, id=run["id"]))["cancelRun"]["run"] == {
        "status": "CANCELLED",
        "statusMessage": "no",
    }
    again = (await execute(context, execute_run, id=run["id"]))["executeRun"]
    assert again == {"run": None, "errors": [{"code": "INVALID_STATE", "runStatus": "CANCELLED"}]}


FULL = """query ($id: ID!) { run(id: $id) {
  status progress output durationMs lastSeq
  currentNodes { nodeId }
  nodeStates { id nodeId label type status input output error { code nodeId } }
  nodeState(nodeId: "b") { status }
  events { firstSeq lastSeq hasMore nodes { __typename seq runId nodeId
    ... on RunStatusChanged { status previous }
    ... on NodeStateChanged { nodeState { id output } }
    ... on CheckpointSaved { checkpointId checkpoint { step } }
    ... on LogRecorded { level message fields }
  } }
  logs(minLevel: INFO) { nodes { message } }
  checkpoints { nodes { step completedNodes nextNodes state sizeBytes parent { id }
    nodeStates { id status } evaluate(expression: "a.output + input.n") { value type errors { message } }
    bad: evaluate(expression: "a.(") { value errors { field line } }
    template: evaluate(expression: "{{ a.output }}/{{ input.n }}", kind: TEMPLATE) { value }
    expression: evaluate(expression: "{{ a.output }}/{{ input.n }}", kind: EXPRESSION) { value }
    condition: evaluate(expression: "nodes.a.output", kind: CONDITION) { value }
    names: evaluate(expression: "[b.output, b.status, nodes.a.last_output, run.id]") { value } } }
} }"""


async def test_all_fields_of_a_run_can_be_read(context: Context, worker: JournalWorker) -> None:
    run_id = await start(context)
    run = await context.loaders.run.load(run_id)
    assert run is not None
    held = await worker.claim(run)
    await held.node("a", NodeStatus.COMPLETED, output=41, has_output=True, input="an input", visits=1)
    await held.checkpoint(new_id("ckp"), step=1, next_nodes=["b"])
    await held.record(LogRecorded(LogLevel.INFO, "hello", "b", {"k": 1}))
    await held.node("b", NodeStatus.FAILED, error=RunError("BOOM", "it broke", "b"))
    await held.finish()
    data = (await execute(context, FULL, id=run_id))["run"]
    assert (data["status"], data["output"], data["lastSeq"]) == ("COMPLETED", {"ok": True}, 7)
    first, second = data["nodeStates"]
    assert (first["id"], first["label"], first["type"]) == (f"{run_id}/a", "First", "transform")
    assert (first["input"], first["output"]) == ("an input", 41)
    assert second["error"] == {"code": "BOOM", "nodeId": "b"}
    assert data["currentNodes"] == []
    kinds = [event["__typename"] for event in data["events"]["nodes"]]
    assert kinds == [
        "RunStatusChanged",
        "RunStatusChanged",
        "NodeStateChanged",
        "CheckpointSaved",
        "LogRecorded",
        "NodeStateChanged",
        "RunStatusChanged",
    ]
    assert data["events"]["nodes"][2]["nodeState"] == {"id": f"{run_id}/a@3", "output": 41}
    assert data["events"]["nodes"][3]["checkpoint"] == {"step": 1}
    assert data["logs"]["nodes"] == [{"message": "hello"}]
    (checkpoint,) = data["checkpoints"]["nodes"]
    assert (checkpoint["completedNodes"], checkpoint["nextNodes"]) == (["a"], ["b"])
    assert checkpoint["state"] == {"a": 41}
    assert checkpoint["nodeStates"] == [
        {"id": f"{run_id}/a@3", "status": "COMPLETED"},
        {"id": f"{run_id}/b@0", "status": "IDLE"},
    ]
    assert checkpoint["evaluate"] == {"value": 42, "type": "number", "errors": []}
    assert checkpoint["bad"]["value"] is None
    assert checkpoint["bad"]["errors"]
    by_kind = [checkpoint[kind]["value"] for kind in ("template", "expression", "condition")]
    assert by_kind == ["41/1", 41, True]
    assert checkpoint["names"]["value"] == [None, "IDLE", 41, run_id]


async def test_a_live_view_receives_snapshot_changes_and_end(context: Context, worker: JournalWorker) -> None:
    run_id = await start(context)
    run = await context.loaders.run.load(run_id)
    assert run is not None
    held = await worker.claim(run)
    await held.node("a", NodeStatus.COMPLETED, output=1, has_output=True)
    await held.finish()
    text = """subscription ($id: ID!, $after: Int) { nodeStates(runId: $id, after: $after) {
        seq snapshot runStatus progress run { id } nodeState { nodeId status output } } }"""
    updates = [item["nodeStates"] for item in await listen(context, text, id=run_id)]
    assert [(update["seq"], update["snapshot"]) for update in updates] == [(0, True), (4, True)]
    assert updates[1]["nodeState"] == {"nodeId": "a", "status": "COMPLETED", "output": 1}
    later = [item["nodeStates"] for item in await listen(context, text, id=run_id, after=2)]
    assert [update["seq"] for update in later] == [3, 4]
    assert later[-1]["runStatus"] == "COMPLETED"
    events = await listen(context, "subscription ($id: ID!) { runEvents(runId: $id) { seq __typename } }", id=run_id)
    assert [event["runEvents"]["seq"] for event in events] == [1, 2, 3, 4]


async def test_an_expired_history_is_sent_as_an_event(context: Context, worker: JournalWorker) -> None:
    run_id = await start(context)
    await context.database.pool.execute("DELETE FROM events WHERE run_id = $1", run_id)
    await context.database.pool.execute("UPDATE runs SET status = 'CANCELLED' WHERE id = $1", run_id)
    text = "subscription ($id: ID!) { runEvents(runId: $id) { __typename seq ... on HistoryExpired { firstSeq } } }"
    (only,) = await listen(context, text, id=run_id)
    assert only["runEvents"] == {"__typename": "HistoryExpired", "seq": 0, "firstSeq": 2}


EXPIRED = """
query ($id: ID!) {
  run(id: $id) {
    status output historyExpiredAt
    nodeStates { nodeId } currentNodes { nodeId } nodeState(nodeId: "a") { status }
    events { nodes { __typename seq ... on HistoryExpired { firstSeq } } lastSeq hasMore }
    later: events(after: 4) { nodes { __typename } }
    logs { nodes { message } hasMore }
    checkpoints { nodes { id } }
    availableActions
  }
}
"""


async def finished_long_ago(context: Context, worker: JournalWorker) -> str:
    """Finish a run with 4 events, and delete its history."""
    run_id = await start(context)
    run = await context.loaders.run.load(run_id)
    assert run is not None
    held = await worker.claim(run)
    await held.node("a", NodeStatus.COMPLETED, output=1, has_output=True)
    await held.finish()
    await context.database.pool.execute("UPDATE runs SET finished_at = now() - interval '40 d' WHERE id = $1", run_id)
    assert await prune_history(context.database.pool, 30) == 1
    return run_id


async def test_a_run_says_that_its_history_has_expired(context: Context, worker: JournalWorker) -> None:
    run_id = await finished_long_ago(context, worker)
    data = (await execute(context, EXPIRED, id=run_id))["run"]
    assert data.pop("historyExpiredAt") is not None
    assert data == {
        "status": "COMPLETED",
        "output": {"ok": True},
        "nodeStates": [],
        "currentNodes": [],
        "nodeState": None,
        "events": {
            "nodes": [{"__typename": "HistoryExpired", "seq": 0, "firstSeq": 5}],
            "lastSeq": 4,
            "hasMore": False,
        },
        "later": {"nodes": []},
        "logs": {"nodes": [], "hasMore": False},
        "checkpoints": {"nodes": []},
        "availableActions": ["RETRY"],
    }


@pytest.mark.parametrize("after", [None, 0, 2])
async def test_node_states_of_an_expired_history_end_with_a_code(
    context: Context, worker: JournalWorker, after: int | None
) -> None:
    run_id = await finished_long_ago(context, worker)
    text = "subscription ($id: ID!, $after: Int) { nodeStates(runId: $id, after: $after) { seq } }"
    variables = {"id": run_id, "after": after}
    stream = await schema.subscribe(text, variable_values=variables, context_value=context)
    results = [stream] if isinstance(stream, ExecutionResult) else [result async for result in stream]
    (error,) = results[0].errors or []
    assert (error.extensions or {})["code"] == "HISTORY_EXPIRED"
    assert "TREADLE_RETENTION_HISTORY_DAYS" in error.message


async def test_a_client_that_has_the_last_event_of_an_expired_history_has_missed_nothing(
    context: Context, worker: JournalWorker
) -> None:
    run_id = await finished_long_ago(context, worker)
    text = "subscription ($id: ID!, $after: Int) { nodeStates(runId: $id, after: $after) { seq } }"
    assert await listen(context, text, id=run_id, after=4) == []


async def test_a_subscription_to_an_unknown_run_fails_with_a_code(context: Context) -> None:
    stream = await schema.subscribe('subscription { runEvents(runId: "run_nothing") { seq } }', context_value=context)
    results = [stream] if isinstance(stream, ExecutionResult) else [result async for result in stream]
    (error,) = results[0].errors or []
    assert (error.extensions or {})["code"] == "NOT_FOUND"


async def test_runs_are_listed_by_filter(context: Context) -> None:
    run_id = await start(context)
    text = "query ($filter: RunFilter) { runs(filter: $filter) { nodes { id } pageInfo { hasNextPage } } }"
    data = await execute(context, text, filter={"status": ["QUEUED"], "source": ["MANUAL"]})
    assert data["runs"]["nodes"] == [{"id": run_id}]
    assert (await execute(context, text, filter={"status": ["FAILED"]}))["runs"]["nodes"] == []
    assert (await execute(context, "query ($id: ID!) { node(id: $id) { __typename id } }", id=run_id))["node"] == {
        "__typename": "Run",
        "id": run_id,
    }


@pytest.mark.parametrize("arguments", ["first: 0", "last: 1001", "first: 1, last: 1"])
async def test_a_window_out_of_range_is_refused(context: Context, arguments: str) -> None:
    run_id = await start(context)
    text = f"query ($id: ID!) {{ run(id: $id) {{ events({arguments}) {{ lastSeq }} }} }}"
    result = await schema.execute(text, variable_values={"id": run_id}, context_value=context)
    (error,) = result.errors or []
    assert (error.extensions or {})["code"] == "VALIDATION"
