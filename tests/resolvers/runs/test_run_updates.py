"""`runUpdates` sends one snapshot, then everything that changes, and a client that reconnects misses nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from engine.events import LogRecorded, NodeChange, NodeState, OutputDelta
from engine.runtime.ports import Entry
from engine.states import EventType, LogLevel, NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.maintenance.retention import prune_history
from persistence.problems import Invalid, NotFound
from persistence.runs.run_filter import RunFilter
from resolvers.context import Context
from resolvers.runs import subscriptions
from resolvers.runs.projection import read_projection
from resolvers.runs.queries import EdgeChange, EventView, ProgressChange
from resolvers.runs.subscriptions import MIN_PROGRESS, RunSnapshot
from schema.schema import schema
from tests.executor_worker import ExecutorWorker, accept_spec, node
from tests.journal_worker import HeldRun, accept_run, open_worker, wait_until

S = NodeStatus
RUN_UPDATES = """subscription ($runId: ID!, $after: Int, $types: [RunEventType!]) {
  runUpdates(runId: $runId, after: $after, types: $types) {
    __typename
    ... on RunSnapshot { seq run { status progress } nodeStates { nodeId status } edgeStates { edgeId status visits } }
    ... on RunEvent { seq nodeId }
    ... on NodeStateChanged { nodeState { status port output edgeStates { edgeId status } } }
    ... on EdgeStateChanged { edgeState { edgeId status visits } }
    ... on NodeOutputDelta { text }
    ... on LogRecorded { message }
    ... on RunStatusChanged { status }
    ... on RunProgressed { progress }
  }
}"""


@pytest.fixture
async def held(context: Context, project: str) -> AsyncIterator[HeldRun]:
    async with open_worker(context.database, context.redis) as worker:
        yield await worker.claim((await accept_run(context.database, context.caller, project)).run)


async def messages(context: Context, held: HeldRun, query: str = RUN_UPDATES, **variables: Any) -> list[dict[str, Any]]:
    stream: Any = await schema.subscribe(
        query, variable_values={"runId": held.run_id, **variables}, context_value=context
    )
    received = []
    async with asyncio.timeout(20):
        async for result in stream:
            assert not result.errors, result.errors
            received.append(result.data["runUpdates"])
    return received


async def finished(held: HeldRun) -> None:
    """Execute node a, and then b, which logs and has a checkpoint, as a worker does."""
    await held.node("a", S.COMPLETED, visits=1, progress=1.0, output=1, has_output=True)
    await held.node("b", S.RUNNING, visits=1)
    await held.record(LogRecorded(LogLevel.INFO, "half", "b", {}))
    await held.node("b", S.RUNNING, visits=1, progress=0.5)
    await held.node("b", S.COMPLETED, visits=1, progress=1.0, output=2, has_output=True)
    await held.checkpoint("ckp_1", step=1, next_nodes=[])
    await held.finish()


def name(message: dict[str, Any]) -> tuple[int, str]:
    return message["seq"], message["__typename"]


HISTORY = [
    (1, "RunStatusChanged"),
    (2, "RunStatusChanged"),
    (3, "NodeStateChanged"),
    (3, "EdgeStateChanged"),
    (3, "RunProgressed"),
    (4, "NodeStateChanged"),
    (5, "LogRecorded"),
    (6, "NodeStateChanged"),
    (6, "RunProgressed"),
    (7, "NodeStateChanged"),
    (7, "RunProgressed"),
    (8, "CheckpointSaved"),
    (9, "RunStatusChanged"),
]


async def test_the_snapshot_is_one_message_and_every_change_follows(context: Context, held: HeldRun) -> None:
    following = asyncio.create_task(messages(context, held))
    await wait_until(lambda: context.feed.streams.topics)
    await finished(held)
    snapshot, *rest = await following
    assert (snapshot["__typename"], snapshot["seq"], snapshot["run"]) == (
        "RunSnapshot",
        2,
        {"status": "RUNNING", "progress": 0.0},
    )
    assert snapshot["nodeStates"] == [{"nodeId": "a", "status": "IDLE"}, {"nodeId": "b", "status": "IDLE"}]
    assert snapshot["edgeStates"] == [{"edgeId": "e", "status": "PENDING", "visits": 0}]
    assert [name(message) for message in rest] == HISTORY[2:]
    assert rest[1]["edgeState"] == {"edgeId": "e", "status": "TAKEN", "visits": 1}
    assert rest[0]["nodeState"]["edgeStates"] == [{"edgeId": "e", "status": "TAKEN"}]
    assert [message["progress"] for message in rest if "progress" in message] == [0.5, 0.75, 1.0]


async def test_a_client_that_reconnects_after_any_number_misses_nothing(context: Context, held: HeldRun) -> None:
    await finished(held)
    snapshot, *rest = await messages(context, held, after=0)
    assert {state["status"] for state in snapshot["nodeStates"]} == {"IDLE"}
    assert [name(message) for message in rest] == HISTORY
    for after in range(1, 10):
        received = await messages(context, held, after=after)
        assert received == [message for message in rest if message["seq"] > after]


ALL_FIELDS = """subscription ($runId: ID!, $after: Int, $types: [RunEventType!]) {
  runUpdates(runId: $runId, after: $after, types: $types) {
    __typename
    ... on RunEvent { seq runId nodeId }
    ... on NodeStateChanged {
      nodeState { nodeId status visits attempt progress port output message edgeStates { edgeId status visits } } }
    ... on EdgeStateChanged { edgeState { edgeId status visits } }
    ... on NodeOutputDelta { visit attempt offset text }
    ... on LogRecorded { level message fields }
    ... on RunStatusChanged { status previous message }
    ... on RunProgressed { progress }
    ... on CheckpointSaved { checkpointId step checkpoint { id step nextNodes } }
  }
}"""
IDLE_STATE = {"visits": 1, "attempt": 1, "progress": 0.0, "port": None, "output": None, "message": None}
TAKEN = {"edgeId": "e", "status": "TAKEN", "visits": 1}


def state(seq: int, node_id: str, status: str, **values: Any) -> dict[str, Any]:
    edge = TAKEN if status == "COMPLETED" else {"edgeId": "e", "status": "PENDING", "visits": 0}
    edges = [edge] if node_id == "a" else []
    values = IDLE_STATE | {"nodeId": node_id, "status": status, "edgeStates": edges} | values
    return {"seq": seq, "nodeId": node_id, "nodeState": values}


CONTENT: dict[EventType, list[dict[str, Any]]] = {
    EventType.RUN_STATUS: [
        {"seq": 1, "nodeId": None, "status": "QUEUED", "previous": None, "message": "Accepted"},
        {"seq": 2, "nodeId": None, "status": "RUNNING", "previous": "QUEUED", "message": "Started"},
        {"seq": 10, "nodeId": None, "status": "COMPLETED", "previous": "RUNNING", "message": "Ended"},
    ],
    EventType.NODE_STATE: [
        state(3, "a", "RUNNING"),
        state(4, "a", "COMPLETED", progress=1.0, output=1, port="out"),
        state(5, "b", "RUNNING"),
        state(7, "b", "RUNNING", progress=0.5, message="half"),
        state(8, "b", "COMPLETED", progress=1.0, output=[2]),
    ],
    EventType.EDGE_STATE: [{"seq": 4, "nodeId": "a", "edgeState": TAKEN}],
    EventType.LOG: [{"seq": 6, "nodeId": "b", "level": "WARNING", "message": "careful", "fields": {"n": 1}}],
    EventType.CHECKPOINT: [
        {
            "seq": 9,
            "nodeId": None,
            "checkpointId": "ckp_1",
            "step": 1,
            "checkpoint": {"id": "ckp_1", "step": 1, "nextNodes": ["b"]},
        }
    ],
    EventType.PROGRESS: [
        {"seq": 4, "nodeId": None, "progress": 0.5},
        {"seq": 7, "nodeId": None, "progress": 0.75},
        {"seq": 8, "nodeId": None, "progress": 1.0},
    ],
    EventType.OUTPUT_DELTA: [
        {"seq": 3, "nodeId": "a", "visit": 1, "attempt": 1, "offset": 0, "text": "Once upon"},
        {"seq": 7, "nodeId": "b", "visit": 1, "attempt": 1, "offset": 0, "text": " a time"},
    ],
}
"""What each type sends for the run of `worked`, in full."""
MESSAGE_NAMES = {
    EventType.RUN_STATUS: "RunStatusChanged",
    EventType.NODE_STATE: "NodeStateChanged",
    EventType.CHECKPOINT: "CheckpointSaved",
    EventType.LOG: "LogRecorded",
    EventType.EDGE_STATE: "EdgeStateChanged",
    EventType.PROGRESS: "RunProgressed",
    EventType.OUTPUT_DELTA: "NodeOutputDelta",
}


async def worked(held: HeldRun) -> None:
    await held.node("a", S.RUNNING, visits=1, attempt=1)
    held.stream(OutputDelta("a", 1, 1, 0, "Once upon"))
    await held.node("a", S.COMPLETED, visits=1, attempt=1, progress=1.0, output=1, has_output=True, port="out")
    await held.node("b", S.RUNNING, visits=1, attempt=1)
    await held.record(LogRecorded(LogLevel.WARNING, "careful", "b", {"n": 1}))
    await held.node("b", S.RUNNING, visits=1, attempt=1, progress=0.5, message="half")
    held.stream(OutputDelta("b", 1, 1, 0, " a time"))
    await held.node("b", S.COMPLETED, visits=1, attempt=1, progress=1.0, output=[2], has_output=True)
    await held.checkpoint("ckp_1", step=1, next_nodes=["b"])
    await held.finish()


async def test_each_type_can_be_selected_alone_with_its_whole_content(context: Context, held: HeldRun) -> None:
    assert set(CONTENT) == set(MESSAGE_NAMES) == set(EventType)
    expected = {
        type: [{"__typename": MESSAGE_NAMES[type], "runId": held.run_id, **message} for message in messages]
        for type, messages in CONTENT.items()
    }

    async def selected(*types: EventType) -> list[dict[str, Any]]:
        wanted = [type.value for type in types]
        snapshot, *rest = await messages(context, held, ALL_FIELDS, after=0, types=wanted)
        assert snapshot["__typename"] == "RunSnapshot"
        return rest

    text = asyncio.create_task(selected(EventType.OUTPUT_DELTA))
    await wait_until(lambda: context.feed.streams.topics)  # Text is sent to those who follow already.
    others = set(EventType) - {EventType.OUTPUT_DELTA}
    following = {type: asyncio.create_task(selected(type)) for type in others} | {EventType.OUTPUT_DELTA: text}
    await worked(held)
    assert {type: await task for type, task in following.items()} == expected
    # What is not live only is in the history as well; two types are sent together, in order.
    assert {type: await selected(type) for type in EventType} == {**expected, EventType.OUTPUT_DELTA: []}
    both = [*expected[EventType.LOG], *expected[EventType.RUN_STATUS]]
    assert await selected(EventType.LOG, EventType.RUN_STATUS) == sorted(both, key=lambda message: message["seq"])


async def test_the_snapshot_of_an_ended_run_is_its_end(context: Context, held: HeldRun) -> None:
    await finished(held)
    [snapshot] = await messages(context, held)
    assert snapshot["run"] == {"status": "COMPLETED", "progress": 1.0}
    assert snapshot["edgeStates"] == [{"edgeId": "e", "status": "TAKEN", "visits": 1}]


async def test_expired_history_is_reported_and_followed_by_a_snapshot(context: Context, held: HeldRun) -> None:
    await finished(held)
    await context.database.pool.execute("DELETE FROM events WHERE run_id = $1 AND seq < 5", held.run_id)
    received = await messages(context, held, after=1)
    assert [name(message) for message in received] == [(1, "HistoryExpired"), (9, "RunSnapshot")]


async def test_a_history_that_has_expired_whole_is_the_only_message(context: Context, held: HeldRun) -> None:
    await finished(held)
    await context.database.pool.execute("UPDATE runs SET finished_at = now() - interval '40 d'")
    assert await prune_history(context.database.pool, 30) == 1
    for after in (None, 0, 3):
        received = await messages(context, held, after=after)
        assert [name(message) for message in received] == [(after or 0, "HistoryExpired")]
    assert await messages(context, held, after=9) == []


async def test_a_second_subscriber_gets_the_text_since_the_last_event(context: Context, held: HeldRun) -> None:
    await held.node("a", S.RUNNING, visits=1)
    async with aclosing(subscriptions.run_updates(context, held.run_id, None)) as first:
        assert isinstance(await anext(first), RunSnapshot)
        held.stream(OutputDelta("a", 1, 1, 0, "Once upon"))
        assert (await _text(first)) == "Once upon"
        async with aclosing(subscriptions.run_updates(context, held.run_id, None)) as second:
            assert isinstance(await anext(second), RunSnapshot)
            assert (await _text(second)) == "Once upon"


async def _text(updates: Any) -> str:
    async with asyncio.timeout(10):
        view = await anext(updates)
    assert isinstance(view, EventView)
    return str(view.event.data.text)  # type: ignore[union-attr]


async def test_wrong_arguments_are_refused(context: Context, held: HeldRun) -> None:
    for after in (-1, 99):
        with pytest.raises(Invalid):
            await anext(subscriptions.run_updates(context, held.run_id, after))
    other = replace(context, caller=Caller("another user", {}))
    with pytest.raises(NotFound):
        await anext(subscriptions.run_updates(other, held.run_id, None))


NODE_STATES = """subscription ($runId: ID!, $after: Int) {
  nodeStates(runId: $runId, after: $after) {
    seq runStatus progress run { status progress lastSeq output finishedAt statusMessage }
  }
}"""


async def test_the_run_of_a_message_agrees_with_the_message(context: Context, held: HeldRun) -> None:
    await finished(held)
    stream: Any = await schema.subscribe(
        NODE_STATES, variable_values={"runId": held.run_id, "after": 0}, context_value=context
    )
    updates = [result.data["nodeStates"] async for result in stream]
    assert {update["runStatus"] for update in updates} == {"QUEUED", "RUNNING", "COMPLETED"}
    for update in updates:
        run = update["run"]
        assert (run["status"], run["progress"]) == (update["runStatus"], update["progress"])
        assert run["lastSeq"] == update["seq"]
        is_over = update["runStatus"] == "COMPLETED"
        assert (run["output"] is not None, run["finishedAt"] is not None) == (is_over, is_over)
    assert updates[-1]["run"]["statusMessage"] == "Ended"


@pytest.mark.parametrize(("status", "is_sent"), [(None, True), (RunStatus.RUNNING, True), (RunStatus.QUEUED, False)])
async def test_the_list_of_runs_sends_progress(
    context: Context, project: str, held: HeldRun, status: RunStatus | None, is_sent: bool
) -> None:
    where = RunFilter(status=None if status is None else [status])
    received: list[float] = []

    async def follow() -> None:
        async with aclosing(subscriptions.changed_runs(context, project, where)) as changed:
            async for run in changed:
                received.append(run.progress)

    following = asyncio.create_task(follow())
    await wait_until(lambda: len(context.feed.channels.confirmed_channels) == 3)
    for number in range(1, 50):
        change = NodeChange(NodeState(held.run_id, "a", S.RUNNING, visits=1, progress=number / 50))
        now = datetime.now(UTC)
        await held.commit(Entry(held.run_id, held.epoch, 0, [(now, change)], progress=number / 100))
    await wait_until(lambda: not is_sent or 0.49 in received)
    await held.finish()
    await wait_until(lambda: status is not None or len(received) >= 3)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert (0.49 in received) is is_sent
    assert len(received) <= 4  # The first and the last progress within a second, and the end.


def edge(id: str, source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "source": source, "target": target, **fields}


LOOP: dict[str, Any] = {
    "nodes": [
        node("a"),
        node("head", "tick"),
        {"id": "check", "type": "conditional", "config": {"condition": "head.output % 2 == 0"}},
        node("even"),
        node("odd", "tick", onError="continue"),
        node("tail", join="any"),
        node("out"),
    ],
    "edges": [
        edge("begin", "__start__", "a", condition="1 < 2"),
        edge("in", "a", "head"),
        edge("test", "head", "check"),
        edge("t", "check", "even", port="true"),
        edge("f", "check", "odd", port="false"),
        edge("e", "even", "tail"),
        edge("o", "odd", "tail"),
        edge("again", "tail", "head", condition="tail.output < 4"),
        edge("leave", "tail", "out", condition="tail.output >= 4"),
    ],
}


VISITS = {"begin": 1, "in": 1, "test": 4, "t": 2, "f": 2, "e": 2, "o": 2, "again": 3, "leave": 1}


@pytest.mark.parametrize("crash_at", [0, 5])
async def test_the_changes_up_to_any_number_add_up_to_the_state_at_that_number(
    context: Context, project: str, crash_at: int
) -> None:
    run_id = await accept_spec(context.database, context.caller, project, LOOP)
    async with ExecutorWorker(context.database, context.redis) as worker:
        if crash_at:
            await asyncio.gather((await worker.claim(run_id, crash_at)).run(), return_exceptions=True)
        assert await (await worker.claim(run_id)).run() is RunStatus.COMPLETED
    [snapshot, *views] = [update async for update in subscriptions.run_updates(context, run_id, 0)]
    assert isinstance(snapshot, RunSnapshot)
    edges = {edge.edge_id: edge for edge in snapshot.edge_states}
    progress = 0.0
    for place, view in enumerate(views):
        assert isinstance(view, EventView)
        data = view.event.data  # type: ignore[union-attr]
        if isinstance(data, EdgeChange):
            edges[data.edge.edge_id] = data.edge
        progress = data.progress if isinstance(data, ProgressChange) else progress
        following = views[place + 1] if place + 1 < len(views) else None
        assert following is None or isinstance(following, EventView)
        if following is None or following.event.seq != view.event.seq:
            projection = await read_projection(context, run_id, view.event.seq, with_values=False)
            assert {edge.edge_id: edge for edge in projection.edge_states} == edges, view.event.seq
            assert projection.progress == pytest.approx(progress, abs=MIN_PROGRESS)
    assert {name: one.visits for name, one in edges.items()} == VISITS
    row = await context.database.pool.fetchrow("SELECT progress FROM runs WHERE id = $1", run_id)
    assert row["progress"] == progress == 1.0
