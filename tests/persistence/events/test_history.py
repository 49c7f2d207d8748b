"""The history of runs: states, outputs, pages of events and checkpoints, and who may see them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from engine.events import CheckpointSaved, LogRecorded, NodeChange, NodeState, RunError, StatusChange
from engine.states import EventType, LogLevel, NodeStatus, RunStatus
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.db.ids import new_id
from persistence.events import codec, history
from persistence.events.history import EventsQuery, Window
from persistence.runs import listing, node_states
from persistence.runs import run as runs
from persistence.runs.run_filter import RunFilter
from persistence.runs.run_order import RunRange
from tests.journal_worker import HeldRun, accept_run, open_worker

OTHER_CALLER = Caller("other", {"prj_other": Role.ADMIN})


@pytest.fixture
async def held(database: Database, redis: Redis, caller: Caller, project: str) -> AsyncIterator[HeldRun]:
    async with open_worker(database, redis) as worker:
        yield await worker.claim((await accept_run(database, caller, project)).run)


@pytest.mark.parametrize(
    "data",
    [
        StatusChange(RunStatus.QUEUED, None, "Accepted"),
        NodeChange(NodeState("run_1", "a", NodeStatus.RUNNING, started_at=datetime.now(UTC), seq=7)),
        NodeChange(NodeState("run_1", "a", NodeStatus.COMPLETED, output=None, has_output=True, seq=7)),
        NodeChange(NodeState("run_1", "a", NodeStatus.FAILED, input=[1], error=RunError("X", "why"), seq=7)),
        CheckpointSaved("ckp_1", 3),
        LogRecorded(LogLevel.WARNING, "careful", "a", {"n": 1}),
    ],
)
def test_a_payload_decodes_to_the_same_event(data: object) -> None:
    at = datetime.now(UTC)
    payload = codec.payload_of(at, data)  # type: ignore[arg-type]
    events = codec.events_of("run_1", 7, b"[" + payload + b"," + payload + b"]")
    assert [event.seq for event in events] == [6, 7]
    assert (events[1].at, events[1].data) == (at, data)


async def test_nodes_without_events_are_idle_in_the_order_of_the_spec(
    database: Database, caller: Caller, held: HeldRun
) -> None:
    await held.node("b", NodeStatus.RUNNING, visits=1, attempt=1)
    async with database.connect() as connection:
        states = (await node_states.states(connection, caller, [held.run_id]))[held.run_id]
        assert await node_states.states(connection, OTHER_CALLER, [held.run_id]) == {}
    assert [(state.node_id, state.status) for state in states] == [("a", NodeStatus.IDLE), ("b", NodeStatus.RUNNING)]


async def test_states_and_outputs_after_an_event_are_those_of_that_time(
    database: Database, caller: Caller, held: HeldRun
) -> None:
    first = await held.node("a", NodeStatus.COMPLETED, output=1, has_output=True, visits=1)
    second = await held.node("a", NodeStatus.COMPLETED, output=2, has_output=True, visits=2, input="input")
    await held.node("a", NodeStatus.RUNNING, visits=3)
    async with database.connect() as connection:
        assert await node_states.outputs_at(connection, caller, held.run_id, first) == {"a": 1}
        assert await node_states.outputs_at(connection, caller, held.run_id, second) == {"a": 2}
        assert await node_states.outputs_at(connection, OTHER_CALLER, held.run_id, second) == {}
        place = (held.run_id, second)
        assert await node_states.values(connection, caller, [place]) == {place: node_states.Values("input", 2)}
        then = (await node_states.states_at(connection, caller, [place]))[place]
        now = (await node_states.states(connection, caller, [held.run_id]))[held.run_id]
    assert (then[0].visits, then[0].output_seq) == (2, second)
    assert (now[0].visits, now[0].has_output, now[0].output_seq) == (3, False, None)


async def test_events_are_paged_forwards_and_backwards(database: Database, caller: Caller, held: HeldRun) -> None:
    await held.record(*(LogRecorded(LogLevel.INFO, f"{n}", "a" if n % 2 else "b", {}) for n in range(8)))
    async with database.connect() as connection:

        async def read(window: Window, **filters: object) -> tuple[list[int], bool]:
            query = EventsQuery(held.run_id, window, **filters)  # type: ignore[arg-type]
            page = (await history.event_pages(connection, caller, [query]))[query]
            return [event.seq for event in page.events], page.has_more

        assert await read(Window()) == (list(range(1, 11)), False)
        assert await read(Window(first=3)) == ([1, 2, 3], True)
        assert await read(Window(first=3, after=8)) == ([9, 10], False)
        assert await read(Window(last=2)) == ([9, 10], True)
        assert await read(Window(last=3, before=4)) == ([1, 2, 3], False)
        assert await read(Window(), types=(EventType.RUN_STATUS,)) == ([1, 2], False)
        assert await read(Window(), node_id="a") == ([4, 6, 8, 10], False)
        query = EventsQuery(held.run_id, Window(after=5))
        empty = (await history.event_pages(connection, OTHER_CALLER, [query]))[query]
    assert (empty.events, empty.first_seq, empty.last_seq) == ([], 5, 5)


async def test_logs_are_filtered_by_level(database: Database, caller: Caller, held: HeldRun) -> None:
    await held.record(*(LogRecorded(level, level.value, None, {}) for level in LogLevel))
    async with database.connect() as connection:
        query = EventsQuery(held.run_id, types=(EventType.LOG,), min_level=LogLevel.WARNING)
        page = (await history.event_pages(connection, caller, [query]))[query]
    assert [event.seq for event in page.events] == [5, 6]


async def test_logs_are_found_by_a_text_in_message_or_fields(database: Database, caller: Caller, held: HeldRun) -> None:
    lines = [("Sent 100% of it", {}), ("sent 100 of it", {"order": "A_17"}), ("other", {"order": "AB17", "n": 5})]
    await held.record(*(LogRecorded(LogLevel.INFO, message, None, fields) for message, fields in lines))
    expected = {"100%": [3], "SENT": [3, 4], "a_17": [4], '"n":5': [5], "order": [4, 5], "nowhere": []}
    async with database.connect() as connection:
        for search, found in expected.items():
            query = EventsQuery(held.run_id, types=(EventType.LOG,), search=search)
            page = (await history.event_pages(connection, caller, [query]))[query]
            assert [event.seq for event in page.events] == found, search


async def test_runs_are_listed_newest_first_and_filtered(database: Database, caller: Caller, project: str) -> None:
    created = [(await accept_run(database, caller, project, start=bool(n % 2))).run for n in range(5)]
    newest = [run.id for run in reversed(created)]
    async with database.connect() as connection:

        async def ids(after: str | None = None, where: RunFilter | None = None) -> list[str]:
            page = await listing.page(connection, caller, RunRange(10, after), where=where or RunFilter())
            return [run.id for run in page.items]

        assert await ids() == newest
        page = await listing.page(connection, caller, RunRange(2))
        assert await ids(after=page.items[-1].id) == newest[2:]
        assert await ids(where=RunFilter(status=[RunStatus.QUEUED])) == [newest[1], newest[3]]
        assert await ids(where=RunFilter(status=[])) == []
        assert await ids(where=RunFilter(version_id="ver_none")) == []
        assert await ids(where=RunFilter(created_after=created[1].created_at)) == newest[:3]
        assert (await listing.page(connection, OTHER_CALLER, RunRange(10))).items == []
        assert await runs.get(connection, OTHER_CALLER, created[0].id) is None


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_server_with_a_wrong_clock_still_lists_runs_by_the_databases_time(
    database: Database, caller: Caller, project: str, hours: int
) -> None:
    """The id of a run uses the server's clock, its row the database's clock."""
    run = (await accept_run(database, caller, project)).run
    shift = "UPDATE runs SET created_at = created_at + make_interval(hours => $1) RETURNING created_at"
    created_at = await database.pool.fetchval(shift, hours)
    around = [created_at - timedelta(minutes=1), created_at + timedelta(minutes=1)]
    async with database.connect() as connection:
        for filter, count in (
            (RunFilter(created_after=around[0], created_before=around[1]), 1),
            (RunFilter(created_after=around[1]), 0),
            (RunFilter(created_before=around[0]), 0),
        ):
            page = await listing.page(connection, caller, RunRange(10), where=filter)
            assert [one.id for one in page.items] == [run.id] * count


async def test_the_estimate_is_the_median_of_completed_runs(database: Database, caller: Caller, project: str) -> None:
    created = [(await accept_run(database, caller, project)).run for _ in range(4)]
    for seconds, run in zip((1, 3, 100), created, strict=False):
        await database.pool.execute(
            "UPDATE runs SET status = 'COMPLETED', started_at = now(), "
            "finished_at = now() + make_interval(secs => $2) WHERE id = $1",
            run.id,
            float(seconds),
        )
    async with database.connect() as connection:
        durations = await listing.median_durations(connection, caller, [created[0].version_id, "ver_none"])
    assert {key: value.total_seconds() for key, value in durations.items()} == {created[0].version_id: 3.0}


async def test_checkpoints_are_found_by_id(database: Database, caller: Caller, held: HeldRun) -> None:
    ids = [new_id("ckp") for _ in range(2)]
    await held.checkpoint(ids[0], step=0, next_nodes=["a"])
    await held.checkpoint(ids[1], step=1, next_nodes=["b"], parent_id=ids[0])
    async with database.connect() as connection:
        checkpoints = await history.checkpoints_by_id(connection, caller, ids)
        head = await history.head(connection, caller, held.run_id)
        assert await history.checkpoints_by_id(connection, OTHER_CALLER, ids) == {}
    assert (checkpoints[ids[1]].parent_id, checkpoints[ids[1]].size_bytes, checkpoints[ids[1]].next_nodes) == (
        ids[0],
        5,
        ["b"],
    )
    assert head == checkpoints[ids[1]]
