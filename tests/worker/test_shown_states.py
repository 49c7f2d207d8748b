"""What a run shows of its nodes: progress, times, ports and edges, through every way to stop it."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.events import EdgeState, LiveDelta, NodeChange
from engine.runtime.run_info import StopReason
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.states import EdgeStatus, NodeStatus, RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.events.publisher import stream_of
from persistence.feed.feed import Feed
from persistence.runs import node_states as nodes
from persistence.runs.run import get
from persistence.runs.waits import open_waits
from resolvers.runs.projection import RunProjection
from resolvers.runs.queries import NodeView, all_edge_states
from tests.executor_worker import ExecutorWorker, accept_spec, edges, eventually, node, node_types, states_in_events
from tests.journal_worker import wait_until
from tests.worker.paused_runs import answer, execute, resume


class StageConfig(NodeConfig):
    fraction: float = 0.0
    fails: bool = False


class StageNode(NodeType[StageConfig]):
    """Reports the half of a fraction, at once the fraction itself, and then waits for `go_on`."""

    name = "stage"
    title = "Stage"
    description = "For tests."
    Config = StageConfig

    def __init__(self) -> None:
        self.running, self.go_on = asyncio.Event(), asyncio.Event()

    async def execute(self, config: StageConfig, ctx: NodeContext) -> Output:
        ctx.progress(config.fraction / 2)
        ctx.progress(config.fraction)
        self.running.set()
        await self.go_on.wait()
        if config.fails:
            raise RuntimeError("as configured")
        return Output(ctx.visit)


def stage(name: str, fraction: float, **fields: Any) -> dict[str, Any]:
    config = {"fraction": fraction, "fails": fields.pop("fails", False)}
    return {"id": name, "type": "stage", "config": config, **fields}


async def progress(database: Database, run_id: str) -> float:
    return float(await database.pool.fetchval("SELECT progress FROM runs WHERE id = $1", run_id))


async def row(database: Database, run_id: str, node_id: str) -> Any:
    return await database.pool.fetchrow("SELECT * FROM node_states WHERE run_id = $1 AND node_id = $2", run_id, node_id)


THREE = {"nodes": [node("a"), stage("b", 1 / 3), node("c")], "edges": edges("a>b b>c")}


async def test_a_running_node_counts_with_its_fraction(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    stage_node = StageNode()
    run_id = await accept_spec(database, caller, project, THREE)
    async with ExecutorWorker(database, redis, node_types(stage_node)) as worker:
        running = asyncio.create_task(execute(await worker.claim(run_id)))
        expected = (1 + 1 / 3) / 3

        async def has_reported() -> bool:
            return await progress(database, run_id) == expected

        await eventually(has_reported)
        assert (await row(database, run_id, "b"))["progress"] == 1 / 3
        stage_node.go_on.set()
        assert await running is RunStatus.COMPLETED
    assert await progress(database, run_id) == 1.0


@pytest.mark.parametrize(("on_error", "expected"), [("fail", (1 + 0.25) / 3), ("continue", 1.0)])
async def test_a_failed_node_keeps_its_fraction(
    database: Database, redis: Redis, caller: Caller, project: str, on_error: str, expected: float
) -> None:
    stage_node = StageNode()
    stage_node.go_on.set()
    spec = {**THREE, "nodes": [node("a"), stage("b", 0.25, fails=True, onError=on_error), node("c")]}
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis, node_types(stage_node)) as worker:
        await execute(await worker.claim(run_id))
    assert (await row(database, run_id, "b"))["progress"] == 0.25
    assert await progress(database, run_id) == pytest.approx(expected)


async def test_a_branch_that_a_join_has_cancelled_does_not_count(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    """Two of three nodes that can be reached are done while `b` runs."""
    stage_node = StageNode()
    wait = {"id": "w", "type": "human", "config": {"prompt": "?"}}
    spec = {"nodes": [node("a"), wait, {**node("j"), "join": "any"}, stage("b", 0)], "edges": edges("a>j w>j j>b")}
    run_id = await accept_spec(database, caller, project, spec)
    async with ExecutorWorker(database, redis, node_types(stage_node)) as worker:
        running = asyncio.create_task(execute(await worker.claim(run_id)))
        await stage_node.running.wait()

        async def has_reported() -> bool:
            return await progress(database, run_id) == 2 / 3

        await eventually(has_reported)
        async with database.connect() as connection:
            run = await get(connection, caller, run_id)
            assert run is not None
            states = (await nodes.states(connection, caller, [run_id]))[run_id]
            graph = (await nodes.graphs(connection, caller, [run_id]))[run_id]
        assert RunProjection(run, states, graph).progress == 2 / 3
        stage_node.go_on.set()
        assert await running is RunStatus.COMPLETED


async def test_every_node_of_a_cancelled_run_that_has_not_ended_is_cancelled(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    stage_node = StageNode()
    run_id = await accept_spec(database, caller, project, THREE)
    async with ExecutorWorker(database, redis, node_types(stage_node)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await stage_node.running.wait()
        await database.pool.execute("UPDATE runs SET status = 'CANCELLING' WHERE id = $1", run_id)
        executor.request(StopReason.CANCEL)
        assert await running is RunStatus.CANCELLED
    async with database.connect() as connection:
        states = (await nodes.states(connection, caller, [run_id]))[run_id]
    assert [state.status for state in states] == [NodeStatus.COMPLETED, NodeStatus.CANCELLED, NodeStatus.CANCELLED]
    assert all(state.completed_at is not None for state in states)
    assert (states[2].started_at, states[2].visits, states[2].progress) == (None, 0, 0.0)


@pytest.mark.parametrize("stop", [StopReason.PAUSE, StopReason.DRAIN, None])
async def test_the_start_of_a_visit_does_not_move(
    database: Database, redis: Redis, caller: Caller, project: str, stop: StopReason | None
) -> None:
    stage_node = StageNode()
    run_id = await accept_spec(database, caller, project, THREE)
    async with ExecutorWorker(database, redis, node_types(stage_node)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await stage_node.running.wait()
        if stop is None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        else:
            if stop is StopReason.PAUSE:
                await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
            executor.request(stop)
            executor.interrupt()
            await running
            await resume(database, run_id)
        stage_node.go_on.set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    states = await states_in_events(database, run_id, "b")
    assert {state.started_at for state in states} == {(await row(database, run_id, "b"))["started_at"]}
    assert len(states) >= 3


async def test_retries_do_not_move_the_start(database: Database, redis: Redis, caller: Caller, project: str) -> None:
    stage_node = StageNode()
    stage_node.go_on.set()
    retried = stage("b", 0.0, fails=True, retry={"maxAttempts": 3, "backoffS": 0}, onError="continue")
    run_id = await accept_spec(database, caller, project, {**THREE, "nodes": [node("a"), retried, node("c")]})
    async with ExecutorWorker(database, redis, node_types(stage_node)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert len({state.started_at for state in await states_in_events(database, run_id, "b")}) == 1


async def test_an_answer_does_not_move_the_start(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    asks = {"nodes": [{"id": "b", "type": "ask", "config": {"prompt": "well?"}}, node("c")], "edges": edges("b>c")}
    run_id = await accept_spec(database, caller, project, asks)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        start = (await row(database, run_id, "b"))["started_at"]
        [wait] = await open_waits(database.pool, run_id)
        await answer(database, wait.id, "yes")
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    ended = await row(database, run_id, "b")
    assert (ended["started_at"], ended["port"]) == (start, "answered")
    assert start is not None


async def shown(database: Database, caller: Caller, run_id: str) -> tuple[dict[str, str | None], dict[str, EdgeState]]:
    """Return the port of each node, and the state of each edge."""
    async with database.connect() as connection:
        run = await get(connection, caller, run_id)
        assert run is not None
        graph = (await nodes.graphs(connection, caller, [run_id]))[run_id]
        states = (await nodes.states(connection, caller, [run_id]))[run_id]
    names = {name.id: name for name in graph.nodes}
    ports = {state.node_id: NodeView(state, names[state.node_id], True).state.port for state in states}
    return ports, {edge.edge_id: edge for edge in all_edge_states(graph, run, states)}


TAKEN, SKIPPED = EdgeStatus.TAKEN, EdgeStatus.SKIPPED


def edge(id: str, source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "source": source, "target": target, **fields}


CHOICE = {
    "nodes": [
        node("a"),
        {"id": "if", "type": "conditional", "config": {"condition": "a.output > 5"}},
        node("yes"),
        node("no"),
        node("more"),
        stage("bad", 0, fails=True, onError="branch"),
        node("saved"),
    ],
    "edges": [
        edge("in", "__start__", "a"),
        edge("never", "__start__", "more", condition="1 > 2"),
        edge("first", "a", "if"),
        edge("y", "if", "yes", port="true"),
        edge("n", "if", "no", port="false"),
        edge("c", "no", "more", condition="no.output > 5"),
        edge("b", "no", "bad"),
        edge("ok", "bad", "more"),
        edge("err", "bad", "saved", port="error"),
        edge("out", "saved", "__end__"),
    ],
}


async def test_ports_and_taken_edges_are_shown(database: Database, redis: Redis, caller: Caller, project: str) -> None:
    stage_node = StageNode()
    stage_node.go_on.set()
    run_id = await accept_spec(database, caller, project, CHOICE)
    _, before = await shown(database, caller, run_id)
    assert {state.status for state in before.values()} == {EdgeStatus.PENDING}
    async with ExecutorWorker(database, redis, node_types(stage_node)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    ports, states = await shown(database, caller, run_id)
    assert (ports["if"], ports["bad"], ports["a"]) == ("false", "error", None)
    taken = {edge_id for edge_id, state in states.items() if state.status is TAKEN}
    assert taken == {"in", "first", "n", "b", "err", "out"}
    assert {edge_id for edge_id, state in states.items() if state.status is SKIPPED} == states.keys() - taken
    assert all(state.visits == (edge_id in taken) for edge_id, state in states.items())
    # Only the node whose conditions decided has more than its port.
    rows = await database.pool.fetch("SELECT node_id FROM node_states WHERE run_id = $1 AND edges IS NOT NULL", run_id)
    assert [row["node_id"] for row in rows] == ["no"]


async def test_the_edges_of_a_state_without_a_port_are_not_guessed(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, LOOP)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    # As an older release has stored it.
    await database.pool.execute("UPDATE node_states SET port = NULL, edges = NULL WHERE run_id = $1", run_id)
    _, states = await shown(database, caller, run_id)
    assert {states[name].status for name in ("t", "f")} == {EdgeStatus.PENDING}
    assert states["test"].status is TAKEN


LOOP = {
    "nodes": [
        node("a"),
        node("head", "tick"),
        {"id": "if", "type": "conditional", "config": {"condition": "head.output % 2 == 0"}},
        node("even"),
        node("odd", "tick"),
        node("tail", join="any"),
        node("out"),
    ],
    "edges": [
        edge("in", "a", "head"),
        edge("test", "head", "if"),
        edge("t", "if", "even", port="true"),
        edge("f", "if", "odd", port="false"),
        edge("e", "even", "tail"),
        edge("o", "odd", "tail"),
        edge("again", "tail", "head", condition="tail.output < 5"),
        edge("leave", "tail", "out", condition="tail.output >= 5"),
    ],
}


@pytest.mark.parametrize("crash", [None, 3, 8, 13])
async def test_edges_in_a_loop_are_counted_through_crashes(
    database: Database, redis: Redis, caller: Caller, project: str, crash: int | None
) -> None:
    run_id = await accept_spec(database, caller, project, LOOP)
    async with ExecutorWorker(database, redis) as worker:
        if crash is not None:
            await asyncio.gather((await worker.claim(run_id, crash)).run(), return_exceptions=True)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    _, states = await shown(database, caller, run_id)
    visits = {edge_id: state.visits for edge_id, state in states.items()}
    assert visits == {"in": 1, "test": 5, "t": 2, "f": 3, "e": 2, "o": 3, "again": 4, "leave": 1}
    taken = {edge_id for edge_id, state in states.items() if state.status is TAKEN}
    assert taken == {"in", "test", "f", "e", "o", "leave"}


class SpeakerConfig(NodeConfig):
    pass


class SpeakerNode(NodeType[SpeakerConfig]):
    """Streams text, waits for `go_on`, and streams more text right before its end."""

    name = "speaker"
    title = "Speaker"
    description = "For tests."
    Config = SpeakerConfig

    def __init__(self) -> None:
        self.running, self.go_on = asyncio.Event(), asyncio.Event()

    async def execute(self, config: SpeakerConfig, ctx: NodeContext) -> Output:
        for word in ("one ", "two ", "three"):
            ctx.text(word)
        self.running.set()
        await self.go_on.wait()
        ctx.text(" and the last")
        return Output("done")


SPEECH = {"nodes": [{"id": "s", "type": "speaker", "config": {}}], "edges": []}


async def test_the_last_text_of_a_node_comes_before_its_end(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    speaker, feed = SpeakerNode(), Feed(database, redis)
    speaker.go_on.set()
    run_id = await accept_spec(database, caller, project, SPEECH)
    async with ExecutorWorker(database, redis, node_types(speaker)) as worker:
        following = asyncio.create_task(_collect(feed, run_id))
        await wait_until(lambda: feed.streams.is_connected)
        await execute(await worker.claim(run_id))
        items = await asyncio.wait_for(following, 10)
    await feed.close()
    texts = [place for place, item in enumerate(items) if isinstance(item, LiveDelta)]
    assert "".join(items[place].data.text for place in texts) == "one two three and the last"
    end = next(place for place, item in enumerate(items) if _is_completed(item))
    assert max(texts) < end


async def _collect(feed: Feed, run_id: str) -> list[Any]:
    return [item async for item in feed.follow(run_id, 0)]


def _is_completed(item: Any) -> bool:
    return isinstance(item.data, NodeChange) and item.data.state.status is NodeStatus.COMPLETED


async def test_text_follows_an_event_that_the_worker_does_not_know(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    speaker = SpeakerNode()
    run_id = await accept_spec(database, caller, project, SPEECH)
    async with ExecutorWorker(database, redis, node_types(speaker)) as worker:
        executing = asyncio.create_task(execute(await worker.claim(run_id)))
        await speaker.running.wait()
        # A server publishes the event of a pause request right after its commit.
        await redis.xadd(stream_of(run_id), {"e": "[]"}, id="100-0")
        speaker.go_on.set()
        assert await executing is RunStatus.COMPLETED
    ids = [entry_id for entry_id, fields in await redis.xrange(stream_of(run_id)) if b"d" in fields]
    assert ids[-1].startswith(b"100-")
