"""Subscriptions send a snapshot and then changes, and a client that reconnects misses nothing."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import TypeVar

import orjson
import pytest

from engine.states import NodeStatus, RunStatus
from persistence.caller import Caller, Role
from persistence.events.publisher import announce, draft_channel, runs_channel
from persistence.feed import run_changes
from persistence.feed.feed import Expired
from persistence.problems import NotFound
from persistence.runs.run import transitions_of
from persistence.runs.run_filter import RunFilter
from persistence.workflows import drafts, workflows
from persistence.workflows.drafts import Content
from resolvers.context import Context
from resolvers.read_ahead import read_ahead
from resolvers.runs import subscriptions
from resolvers.runs.subscriptions import NodeUpdate
from resolvers.workflows.workflows import delete_workflow
from schema.schema import schema
from tests.journal_worker import SPEC, HeldRun, accept_run, open_worker, wait_until
from tests.statement_counter import count_statements

T = TypeVar("T")


@pytest.fixture
async def held(context: Context, project: str) -> AsyncIterator[HeldRun]:
    async with open_worker(context.database, context.redis) as worker:
        yield await worker.claim((await accept_run(context.database, context.caller, project)).run)


async def collected(updates: AsyncIterator[T]) -> list[T]:
    async with asyncio.timeout(20):
        return [update async for update in updates]


def summary(update: NodeUpdate) -> tuple[int, bool, str | None, str | None]:
    view = update.view
    return (update.seq, update.is_snapshot, view and view.state.node_id, view and view.state.status.value)


async def test_the_state_of_every_node_is_sent_first_and_then_every_change(context: Context, held: HeldRun) -> None:
    await held.node("b", NodeStatus.RUNNING)
    async with aclosing(subscriptions.node_states(context, held.run_id, None)) as updates:
        assert summary(await anext(updates)) == (0, True, "a", "IDLE")
        assert summary(await anext(updates)) == (3, True, "b", "RUNNING")
        await held.node("b", NodeStatus.COMPLETED, output=1, has_output=True)
        await held.node("a", NodeStatus.COMPLETED, output=1, has_output=True)
        await held.finish()
        rest = await collected(updates)
    assert [summary(update) for update in rest] == [
        (4, False, "b", "COMPLETED"),
        (5, False, "a", "COMPLETED"),
        (6, False, None, None),
    ]
    assert [update.progress for update in rest] == [0.5, 1.0, 1.0]
    assert rest[-1].run_status is RunStatus.COMPLETED
    assert rest[0].view is not None
    assert (rest[0].view.id, rest[0].view.name.type) == (f"{held.run_id}/b", "transform")


async def test_a_client_that_reconnects_after_any_number_misses_no_change(context: Context, held: HeldRun) -> None:
    for status in (NodeStatus.RUNNING, NodeStatus.COMPLETED):
        for node in ("a", "b"):
            await held.node(node, status)
    await held.finish()
    all_updates = [summary(update) for update in await collected(subscriptions.node_states(context, held.run_id, 0))]
    assert all_updates[:2] == [(0, True, "a", "IDLE"), (0, True, "b", "IDLE")]
    for after in range(1, 8):
        received = [
            summary(update) for update in await collected(subscriptions.node_states(context, held.run_id, after))
        ]
        assert received == [update for update in all_updates if update[0] > after]


async def test_a_client_that_disconnects_during_the_snapshot_can_continue(context: Context, held: HeldRun) -> None:
    await held.node("b", NodeStatus.COMPLETED)
    await held.node("a", NodeStatus.COMPLETED)
    await held.finish()
    snapshot = await collected(subscriptions.node_states(context, held.run_id, None))
    assert [summary(update) for update in snapshot] == [(3, True, "b", "COMPLETED"), (5, True, "a", "COMPLETED")]
    rest = await collected(subscriptions.node_states(context, held.run_id, snapshot[0].seq))
    assert [update.view.state.node_id for update in rest if update.view] == ["a"]


async def test_a_client_whose_number_retention_has_deleted_gets_a_new_snapshot(context: Context, held: HeldRun) -> None:
    await held.node("a", NodeStatus.COMPLETED)
    await held.finish()
    await context.database.pool.execute("DELETE FROM events WHERE run_id = $1 AND seq < 4", held.run_id)
    updates = await collected(subscriptions.node_states(context, held.run_id, 1))
    assert [summary(update) for update in updates] == [(0, True, "b", "IDLE"), (4, True, "a", "COMPLETED")]


async def test_run_events_report_that_history_has_expired(context: Context, held: HeldRun) -> None:
    await held.finish()
    await context.database.pool.execute("DELETE FROM events WHERE run_id = $1 AND seq < 3", held.run_id)
    first, *rest = await collected(subscriptions.run_events(context, held.run_id, 0))
    assert isinstance(first.event, Expired)
    assert [view.event.seq for view in rest] == [3]


async def test_a_run_of_another_user_is_not_found(context: Context, held: HeldRun) -> None:
    other = replace(context, caller=Caller("another user", {}))
    with pytest.raises(NotFound):
        await collected(subscriptions.node_states(other, held.run_id, None))
    with pytest.raises(NotFound):
        await collected(subscriptions.run_events(other, held.run_id, 0))


async def test_a_run_that_leaves_the_filter_is_sent_once_more(context: Context, project: str) -> None:
    where = RunFilter(status=[RunStatus.QUEUED])
    async with (
        open_worker(context.database, context.redis) as worker,
        aclosing(subscriptions.changed_runs(context, project, where)) as changed,
    ):
        waiting = asyncio.create_task(anext(changed))
        await wait_until(lambda: context.feed.channels.confirmed_channels)
        accept = await accept_run(context.database, context.caller, project)
        await context.feed.publish(accept.transitions)
        assert (await waiting).status is RunStatus.QUEUED
        held = await worker.claim(accept.run)
        assert (await anext(changed)).status is RunStatus.RUNNING
        await held.finish()
        second = await accept_run(context.database, context.caller, project)
        await context.feed.publish(second.transitions)
        assert (await anext(changed)).id == second.run.id
    await wait_until(lambda: not context.feed.channels.wanted_channels)


async def test_one_notification_about_a_run_is_one_read_for_all_subscribers_of_its_project(
    context: Context, project: str
) -> None:
    other = replace(context, caller=Caller("another", {project: Role.VIEWER, "prj_other": Role.VIEWER}))
    async with AsyncExitStack() as stack:
        generators = [
            await stack.enter_async_context(aclosing(subscriptions.changed_runs(subscriber, None, RunFilter())))
            for subscriber in (context, other)
            for _ in range(10)
        ]
        waiting = [asyncio.create_task(anext(generator)) for generator in generators]
        await wait_until(lambda: runs_channel(project) in context.feed.channels.confirmed_channels)
        results = [await accept_run(context.database, context.caller, project) for _ in range(3)]
        async with count_statements(context.database) as statements:
            await context.feed.publish(transitions_of(results))
            received = [
                [(await first).id, *[(await anext(generator)).id for _ in range(2)]]
                for first, generator in zip(waiting, generators, strict=True)
            ]
    assert received == [[result.run.id for result in results]] * len(generators)
    assert len(statements) == len(results)
    await wait_until(lambda: not context.feed.channels.wanted_channels)


async def test_a_change_outside_every_filter_is_not_read(context: Context, project: str) -> None:
    async with (
        open_worker(context.database, context.redis) as worker,
        aclosing(subscriptions.changed_runs(context, project, RunFilter(status=[RunStatus.FAILED]))) as failed,
    ):
        waiting = asyncio.create_task(anext(failed))
        await wait_until(lambda: context.feed.channels.confirmed_channels)
        accept = await accept_run(context.database, context.caller, project)
        await context.feed.publish(accept.transitions)
        held = await worker.claim(accept.run)
        async with count_statements(context.database) as statements:
            await held.finish(RunStatus.FAILED)
            assert (await waiting).status is RunStatus.FAILED
    assert statements.count(run_changes._READ) == 1


OUTPUTS = """subscription($id: ID!, $after: Int) { nodeStates(runId: $id, after: $after) {
    seq nodeState { nodeId status input output } } }"""
EVENTS = "subscription($id: ID!) { runEvents(runId: $id) { seq ... on NodeStateChanged { nodeState { output } } } }"


@pytest.mark.parametrize("after", [None, 0, 1])
async def test_a_replay_with_outputs_needs_no_statement_for_each_event(
    context: Context, held: HeldRun, after: int | None
) -> None:
    # Small values are read with their events; the large one is read by itself.
    large = [str(number) * 9 for number in range(20_000)]
    for visit in range(30):
        await held.node("a", NodeStatus.COMPLETED, visits=visit, output={"n": visit}, has_output=True, input=[visit])
    await held.node("b", NodeStatus.COMPLETED, output=large, has_output=True)
    await held.finish()
    async with count_statements(context.database) as statements:
        stream = await schema.subscribe(
            OUTPUTS, variable_values={"id": held.run_id, "after": after}, context_value=context
        )
        changes = [result.data["nodeStates"]["nodeState"] async for result in stream if result.data]
    states = [state for state in changes if state is not None and state["status"] != "IDLE"]
    assert orjson.loads(orjson.dumps(states[-1]["output"])) == large
    values = [(state["input"], state["output"]) for state in states if state["nodeId"] == "a"]
    assert values == ([([29], {"n": 29})] if after is None else [([visit], {"n": visit}) for visit in range(30)])
    assert len(statements) <= 16


async def test_events_with_outputs_need_no_statement_for_each_event(context: Context, held: HeldRun) -> None:
    for visit in range(30):
        await held.node("a", NodeStatus.COMPLETED, visits=visit, output=visit, has_output=True)
    await held.finish()
    async with count_statements(context.database) as statements:
        stream = await schema.subscribe(EVENTS, variable_values={"id": held.run_id}, context_value=context)
        events = [result.data["runEvents"] async for result in stream if result.data]
    assert [event["nodeState"]["output"] for event in events if "nodeState" in event] == list(range(30))
    assert len(statements) <= 10


async def test_the_draft_is_sent_each_time_it_is_saved(context: Context, project: str) -> None:
    async with context.database.begin() as connection:
        content = Content(SPEC, "one")
        workflow = await workflows.create(
            connection, context.caller, project, name="w", description="", content=content
        )
    async with aclosing(subscriptions.draft_saves(context, workflow.id)) as saves:
        waiting = asyncio.create_task(anext(saves))
        await wait_until(lambda: context.feed.channels.confirmed_channels)
        async with context.database.begin() as connection:
            await drafts.save(connection, context.caller, workflow.id, Content({**SPEC, "outputs": {}}, "two"), 1)
        await announce(context.redis, draft_channel(workflow.id), "2")
        async with asyncio.timeout(10):
            assert (await waiting).revision == 2
            await delete_workflow(context, workflow.id, cancel_runs=False)
            assert [save async for save in saves] == []


EVERYTHING = """subscription($id: ID!) { runUpdates(runId: $id, after: 0) { __typename
    ... on RunSnapshot { run { id workflow { id } version { id number } project { name } waits { nodeId } } }
    ... on CheckpointSaved { checkpoint { id seq run { id status } } }
    ... on NodeStateChanged { nodeState { nodeId output } } } }"""
STATES = """subscription($id: ID!, $after: Int) { nodeStates(runId: $id, after: $after) { seq
    run { id version { id } currentNodes { nodeId } waits { nodeId } } nodeState { nodeId output } } }"""


@pytest.mark.parametrize(("subscription", "after"), [(EVERYTHING, None), (STATES, None), (STATES, 0), (STATES, 1)])
async def test_a_replay_needs_no_statement_for_each_event(
    context: Context, held: HeldRun, subscription: str, after: int | None
) -> None:
    for number in range(100):
        await held.node("a", NodeStatus.COMPLETED, visits=number, output={"n": number}, has_output=True)
        await held.checkpoint(f"ckp_{number:026}", step=number, next_nodes=["b"])
    await held.finish()
    variables = {"id": held.run_id} | ({} if after is None else {"after": after})
    async with count_statements(context.database) as statements:
        stream = await schema.subscribe(subscription, variable_values=variables, context_value=context)
        results = [result async for result in stream]
    assert not any(result.errors for result in results)
    updates = [result.data["runUpdates"] for result in results if result.data and "runUpdates" in result.data]
    saved = [update["checkpoint"]["id"] for update in updates if update["__typename"] == "CheckpointSaved"]
    assert saved == ([f"ckp_{number:026}" for number in range(100)] if subscription is EVERYTHING else [])
    # 203 events were 623 statements.
    assert len(statements) < 45, statements


async def test_a_live_event_is_sent_at_once_and_reads_the_run_of_now(context: Context, held: HeldRun) -> None:
    stream = await schema.subscribe(STATES, variable_values={"id": held.run_id, "after": 2}, context_value=context)
    for number in range(3):
        reading = asyncio.ensure_future(anext(stream))
        await held.node("a", NodeStatus.RUNNING, visits=number + 1)
        async with asyncio.timeout(20):
            result = await reading
        assert result.data is not None and result.data["nodeStates"]["seq"] == 3 + number
        assert [node["nodeId"] for node in result.data["nodeStates"]["run"]["currentNodes"]] == ["a"]
    await stream.aclose()


async def test_a_failure_of_the_source_follows_the_updates_that_were_ready() -> None:
    async def source() -> AsyncGenerator[int]:
        yield 1
        yield 2
        raise NotFound("run_1")

    received: list[list[int]] = []
    with pytest.raises(NotFound):
        async for batch in read_ahead(source()):
            received.append(batch)
    assert received == [[1, 2]]


async def test_a_reader_that_stops_closes_the_source() -> None:
    closed = asyncio.Event()

    async def source() -> AsyncGenerator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with aclosing(read_ahead(source())) as batches:
        assert await anext(batches) == [1]
    assert closed.is_set()
