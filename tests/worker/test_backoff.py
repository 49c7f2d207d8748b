"""A node in backoff: its attempt and the time of the next one survive pauses, drains and crashes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.errors import NodeFailure
from engine.runtime import executor as executors
from engine.runtime.run_info import StopReason
from engine.sdk.node import NodeConfig, NodeContext, NodeType, Output
from engine.states import NodeStatus, RunStatus, WaitKind
from persistence.caller import Caller
from persistence.checkpoints.rewind import rewind
from persistence.db.database import Database
from persistence.maintenance.rescue import rescue_expired
from persistence.runs import commands
from persistence.runs.waits import open_waits
from tests.executor_worker import (
    ExecutorWorker,
    accept_spec,
    edges,
    eventually,
    node,
    node_types,
    run_summary,
    states_in_events,
)
from tests.journal_worker import DEADLINES
from tests.worker.paused_runs import execute, node_statuses, resume


class FlakyConfig(NodeConfig):
    failures: int = 1


class FlakyNode(NodeType[FlakyConfig]):
    """Fails its first attempts. `began` has each attempt with its time and idempotency key.

    An attempt in `hangs` never ends.
    """

    name = "flaky"
    title = "Flaky"
    description = "For tests."
    Config = FlakyConfig

    def __init__(self) -> None:
        self.began: list[tuple[int, datetime, str]] = []
        self.hangs: set[int] = set()
        self.is_hanging = asyncio.Event()

    @property
    def attempts(self) -> list[int]:
        return [number for number, _, _ in self.began]

    async def execute(self, config: FlakyConfig, ctx: NodeContext) -> Output:
        self.began.append((ctx.attempt, datetime.now(UTC), ctx.idempotency_key))
        if ctx.attempt in self.hangs:
            self.is_hanging.set()
            await asyncio.Event().wait()
        if ctx.attempt <= config.failures:
            raise NodeFailure("FLAKY", f"attempt {ctx.attempt} fails on purpose", retryable=True)
        return Output(f"attempt {ctx.attempt}")


class PatientNode(NodeType[NodeConfig]):
    """Waits for a minute between two parts of its work. In visits of `passes` it does not wait."""

    name = "patient"
    title = "Patient"
    description = "For tests."
    Config = NodeConfig

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.is_waiting = asyncio.Event()
        self.passes = False

    async def execute(self, config: NodeConfig, ctx: NodeContext) -> Output:
        self.keys.append(ctx.idempotency_key)
        self.is_waiting.set()
        if not self.passes:
            await ctx.pause(60)
        return Output("done")


def flaky(backoff_s: float, failures: int = 1, attempts: int = 3) -> dict[str, Any]:
    retry = {"maxAttempts": attempts, "backoffS": backoff_s, "multiplier": 1}
    return {"id": "f", "type": "flaky", "config": {"failures": failures}, "retry": retry}


def spec(backoff_s: float, **fields: Any) -> dict[str, Any]:
    return {"nodes": [flaky(backoff_s, **fields), node("after")], "edges": edges("f>after")}


async def backoff(database: Database, run_id: str) -> datetime:
    """Wait until the node is in backoff, and return the time of the next attempt."""
    [wait] = await eventually(lambda: open_waits(database.pool, run_id))
    assert (wait.kind, wait.node_id) == (WaitKind.RETRY, "f")
    assert wait.until is not None
    return wait.until


async def check_completed(database: Database, run_id: str, kind: FlakyNode, due: datetime) -> None:
    """Check that two attempts were made with one key, and the second one not before `due`."""
    assert kind.attempts == [1, 2]
    assert len({key for _, _, key in kind.began}) == 1
    assert kind.began[1][1] >= due
    assert (await run_summary(database, run_id))[1] == {("f", 1): 1, ("after", 1): 1}
    state = await database.pool.fetchrow("SELECT * FROM node_states WHERE run_id = $1 AND node_id = 'f'", run_id)
    assert (state["attempt"], state["message"], state["error"]) == (2, None, None)
    assert await open_waits(database.pool, run_id) == []


async def test_a_pause_in_backoff_pauses_at_once_and_keeps_the_remaining_delay(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    kind = FlakyNode()
    run_id = await accept_spec(database, caller, project, spec(1.0))
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        due = await backoff(database, run_id)
        await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
        executor.request(StopReason.PAUSE)
        assert await running is RunStatus.PAUSED
        assert datetime.now(UTC) < due
        assert await node_statuses(database, run_id) == {"f": "RETRYING"}
        next_nodes = "SELECT next_nodes FROM checkpoints WHERE run_id = $1 ORDER BY seq DESC LIMIT 1"
        assert await database.pool.fetchval(next_nodes, run_id) == ["f"]
        await resume(database, run_id)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    await check_completed(database, run_id, kind, due)


@pytest.mark.parametrize("reason", [StopReason.PAUSE, StopReason.DRAIN])
async def test_a_node_that_pauses_inside_its_attempt_delays_no_stop(
    database: Database, redis: Redis, caller: Caller, project: str, reason: StopReason
) -> None:
    kind = PatientNode()
    run_id = await accept_spec(database, caller, project, {"nodes": [{"id": "p", "type": "patient"}], "edges": []})
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await kind.is_waiting.wait()
        if reason is StopReason.PAUSE:
            await database.pool.execute("UPDATE runs SET status = 'PAUSING' WHERE id = $1", run_id)
        executor.request(reason)
        if reason is StopReason.PAUSE:
            assert await running is RunStatus.PAUSED
            await resume(database, run_id)
        else:
            assert await running is RunStatus.QUEUED
        kind.passes = True
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert len(kind.keys) == 2 and len({*kind.keys}) == 1
    state = await database.pool.fetchrow("SELECT * FROM node_states WHERE run_id = $1", run_id)
    assert (state["visits"], state["attempt"]) == (1, 1)


@pytest.mark.parametrize("stop", ["drain", "crash"])
async def test_a_drain_or_a_crash_in_backoff_keeps_attempt_and_remaining_delay(
    database: Database, redis: Redis, caller: Caller, project: str, stop: str
) -> None:
    kind = FlakyNode()
    run_id = await accept_spec(database, caller, project, spec(1.0))
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        due = await backoff(database, run_id)
        if stop == "drain":
            executor.request(StopReason.DRAIN)
            assert await running is RunStatus.QUEUED
            assert datetime.now(UTC) < due
        else:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    await check_completed(database, run_id, kind, due)


async def test_a_crash_at_any_commit_repeats_no_attempt_that_has_failed(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    for at in range(1, 9):
        for before in (True, False):
            kind = FlakyNode()
            run_id = await accept_spec(database, caller, project, spec(0.02, failures=2))
            async with ExecutorWorker(database, redis, node_types(kind)) as worker:
                await asyncio.gather(execute(await worker.claim(run_id, at, before)), return_exceptions=True)
                states = await states_in_events(database, run_id)
                failed = {state.attempt for state in states if state.status is NodeStatus.RETRYING}
                known = len(kind.began)
                if (await run_summary(database, run_id))[3] == "RUNNING":
                    assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
                assert kind.attempts[-1] == 3
                assert not failed & set(kind.attempts[known:])


async def test_an_attempt_that_a_crash_interrupts_runs_again_under_its_number(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    kind = FlakyNode()
    kind.hangs = {2}
    run_id = await accept_spec(database, caller, project, spec(0.01))
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        for _ in range(2):
            kind.is_hanging.clear()
            running = asyncio.create_task(execute(await worker.claim(run_id)))
            await kind.is_hanging.wait()
            seqs = await database.pool.fetchval("SELECT max(seq) FROM checkpoints WHERE run_id = $1", run_id)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        # A claim that has made no progress has saved no checkpoint: a crash loop is counted by it.
        assert await database.pool.fetchval("SELECT max(seq) FROM checkpoints WHERE run_id = $1", run_id) == seqs
        kind.hangs = set()
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert kind.attempts == [1, 2, 2, 2]


async def test_a_long_backoff_needs_no_worker_and_other_branches_go_on(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    kind = FlakyNode()
    beside = {"nodes": [flaky(60.0), node("b", "tick", 3), node("c", "tick")], "edges": edges("b>c")}
    run_id = await accept_spec(database, caller, project, beside)
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        due = await backoff(database, run_id)
        row = await database.pool.fetchrow("SELECT * FROM runs WHERE id = $1", run_id)
        assert (row["worker_id"], row["wake_at"], row["deadline_at"] > due) == (None, due, True)
        assert "tries again at" in row["status_message"]
        assert await node_statuses(database, run_id) == {"f": "RETRYING", "b": "COMPLETED", "c": "COMPLETED"}
        await database.pool.execute("UPDATE waits SET until = now() WHERE run_id = $1", run_id)
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert kind.attempts == [1, 2]


@pytest.mark.parametrize("status", ["WAITING", "QUEUED", "PAUSING"])
async def test_a_pause_by_the_server_or_a_rescue_keeps_a_backoff(
    database: Database, redis: Redis, caller: Caller, project: str, status: str
) -> None:
    kind = FlakyNode()
    run_id = await accept_spec(database, caller, project, spec(60.0))
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        await database.pool.execute(
            "UPDATE runs SET status = $2, lease_until = now() - interval '1 s' WHERE id = $1", run_id, status
        )
        if status == "PAUSING":
            await rescue_expired(database, 3)
        else:
            async with database.begin() as connection:
                await commands.pause(connection, caller, run_id, DEADLINES)
        assert await database.pool.fetchval("SELECT status FROM runs WHERE id = $1", run_id) == "PAUSED"
        assert await node_statuses(database, run_id) == {"f": "RETRYING"}
        async with database.begin() as connection:
            await commands.resume(connection, caller, run_id)
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
    assert kind.attempts == [1]


async def test_a_cancel_in_backoff_ends_the_node_and_its_wait(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    kind = FlakyNode()
    run_id = await accept_spec(database, caller, project, spec(4.0))
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        executor = await worker.claim(run_id)
        running = asyncio.create_task(execute(executor))
        await backoff(database, run_id)
        await database.pool.execute("UPDATE runs SET status = 'CANCELLING' WHERE id = $1", run_id)
        executor.request(StopReason.CANCEL)
        assert await running is RunStatus.CANCELLED
    assert (await node_statuses(database, run_id))["f"] == "CANCELLED"
    assert await open_waits(database.pool, run_id) == []
    assert kind.attempts == [1]


@pytest.mark.parametrize(("backoff_s", "attempts"), [(0.05, [1, 2]), (60.0, [1])], ids=["short", "long"])
async def test_a_step_includes_short_backoffs_of_its_nodes(
    database: Database, redis: Redis, caller: Caller, project: str, backoff_s: float, attempts: list[int]
) -> None:
    kind = FlakyNode()
    run_id = await accept_spec(database, caller, project, spec(backoff_s))
    await database.pool.execute("UPDATE runs SET is_step = true WHERE id = $1", run_id)
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.PAUSED
    assert kind.attempts == attempts
    assert await node_statuses(database, run_id) == {"f": "COMPLETED" if len(attempts) == 2 else "RETRYING"}


@pytest.mark.parametrize("is_open", [True, False], ids=["still open", "ended since"])
async def test_a_rewind_to_a_backoff_continues_with_the_next_attempt(
    database: Database, redis: Redis, caller: Caller, project: str, is_open: bool
) -> None:
    kind = FlakyNode()
    run_id = await accept_spec(database, caller, project, spec(60.0, failures=2))
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        checkpoint_id = await database.pool.fetchval(
            "SELECT id FROM checkpoints WHERE run_id = $1 ORDER BY seq DESC LIMIT 1", run_id
        )
        if not is_open:
            await database.pool.execute("UPDATE waits SET until = now() WHERE run_id = $1", run_id)
            assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        async with database.begin() as connection:
            await commands.pause(connection, caller, run_id, DEADLINES)
            await rewind(connection, caller, run_id, checkpoint_id)
        assert await node_statuses(database, run_id) == {"f": "RETRYING"}
        kind.began.clear()
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
    assert kind.attempts == ([] if is_open else [2])


async def test_a_backoff_is_stored_by_the_clock_of_the_database(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    """The test has a right host and a database with a wrong clock, which is equivalent."""
    kind, theirs = FlakyNode(), timedelta(hours=1)
    run_id = await accept_spec(database, caller, project, spec(600.0))
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        worker.journal.clock_skew.measure(datetime.now(UTC) + theirs, reply_s=0.01)
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        due = datetime.now(UTC) + theirs + timedelta(minutes=1)
        assert abs(await backoff(database, run_id) - due) < timedelta(seconds=30)
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
    assert kind.attempts == [1]


@pytest.mark.parametrize("is_spec", [False, True], ids=["node", "spec"])
async def test_an_item_of_a_map_waits_for_its_next_attempt_in_memory(
    database: Database,
    redis: Redis,
    caller: Caller,
    project: str,
    monkeypatch: pytest.MonkeyPatch,
    is_spec: bool,
) -> None:
    monkeypatch.setattr(executors, "PATIENCE_S", 0.0)
    item = flaky(0.2)
    single = {name: item[name] for name in ("type", "config", "retry")}
    body = {"spec": {"nodes": [item], "edges": []}} if is_spec else {"node": single}
    run_spec = {"nodes": [{"id": "m", "type": "map", "config": {"items": [1, 2], **body}}], "edges": []}
    kind = FlakyNode()
    run_id = await accept_spec(database, caller, project, run_spec)
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert sorted(kind.attempts) == [1, 1, 2, 2]


async def test_a_failure_elsewhere_ends_a_run_with_a_node_in_backoff(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    kind = FlakyNode()
    fails = {**node("x", "code"), "config": {"code": "def process():\n    raise ValueError"}}
    run_id = await accept_spec(database, caller, project, {"nodes": [flaky(60.0), fails], "edges": []})
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.FAILED
    assert (await node_statuses(database, run_id))["x"] == "FAILED"
    assert (await node_statuses(database, run_id))["f"] == "CANCELLED"
    assert await open_waits(database.pool, run_id) == []


async def test_the_last_attempt_fails_the_node_for_good(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    kind = FlakyNode()
    run_id = await accept_spec(database, caller, project, spec(0.01, failures=5))
    async with ExecutorWorker(database, redis, node_types(kind)) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.FAILED
    assert kind.attempts == [1, 2, 3]
    assert await node_statuses(database, run_id) == {"f": "FAILED"}
