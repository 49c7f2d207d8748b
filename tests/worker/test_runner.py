"""The runner under faults: stores that fail, leases that are lost, nodes that misbehave."""

import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from engine.sdk.node import NodeContext, Output
from persistence.caller import Caller, Role
from persistence.db.database import Database
from persistence.db.ids import Prefix, new_id
from persistence.db.transient import DATABASE_ERRORS
from persistence.maintenance.rescue import rescue_expired
from tests.executor_worker import GatedConfig, GatedNode, accept_spec, edges, eventually, node, node_types
from tests.worker.running_worker import ended, running

SPEC = {"nodes": [node("only")], "edges": []}
GATED = {"nodes": [{"id": "gated", "type": "gated"}, node("after")], "edges": edges("gated>after")}


async def test_a_run_whose_writes_are_refused_fails_with_no_node_running_and_no_other_run_fails(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    await database.pool.execute(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no poison here' USING ERRCODE = '22023'; END $$"""
    )
    await database.pool.execute(
        """CREATE TRIGGER refuse BEFORE INSERT ON node_outputs FOR EACH ROW
        WHEN (NEW.node_id = 'poison') EXECUTE FUNCTION refuse()"""
    )
    gated = GatedNode()
    poison = {"nodes": [node("poison"), {"id": "gated", "type": "gated"}], "edges": []}
    bad = await accept_spec(database, caller, project, poison)
    good = [await accept_spec(database, caller, project, {"nodes": [node("a")], "edges": []}) for _ in range(5)]
    async with running(database, redis, node_types(gated)) as runner:
        runner.poll()
        row = await ended(database, bad)
        assert (row["status"], row["error"]["code"]) == ("FAILED", "STORAGE")
        assert "no poison here" in row["error"]["message"]
        for run_id in good:
            assert (await ended(database, run_id))["status"] == "COMPLETED"
    statuses = await database.pool.fetch("SELECT status FROM node_states WHERE run_id = $1", bad)
    assert not {one["status"] for one in statuses} & {"RUNNING", "WAITING", "RETRYING"}


async def test_a_run_that_is_lost_and_claimed_again_by_one_process_is_executed_once_at_a_time(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    live = most = 0

    class Counting(GatedNode):
        async def execute(self, config: GatedConfig, ctx: NodeContext) -> Output:
            nonlocal live, most
            live += 1
            most = max(most, live)
            try:
                return await super().execute(config, ctx)
            finally:
                live -= 1

    gated = Counting()
    run_id = await accept_spec(database, caller, project, GATED)
    async with running(database, redis, node_types(gated)) as runner:
        runner.poll()
        await gated.running.wait()
        first = runner.tasks[run_id]
        gated.running.clear()
        await database.pool.execute("UPDATE runs SET lease_until = now() - interval '1 s' WHERE id = $1", run_id)
        await rescue_expired(database, 5)
        runner.poll()
        await gated.running.wait()
        assert runner.tasks[run_id] is not first
        assert most == 1
        gated.release.set()
        assert (await ended(database, run_id))["status"] == "COMPLETED"
        await eventually(lambda: _is(not runner.tasks))


@pytest.mark.parametrize(("capacity", "lane_limit"), [(1, None), (10, 1)])
async def test_the_end_of_a_run_starts_queued_runs_without_another_notification(
    database: Database, redis: Redis, caller: Caller, project: str, capacity: int, lane_limit: int | None
) -> None:
    run_ids = [await accept_spec(database, caller, project, SPEC) for _ in range(3)]
    await database.pool.execute("UPDATE runs SET lane = 'one', lane_limit = $1", lane_limit)
    async with running(database, redis, capacity=capacity) as runner:
        runner.poll()
        assert [(await ended(database, run_id))["status"] for run_id in run_ids] == ["COMPLETED"] * 3


async def test_one_project_leaves_a_tenth_of_a_worker_to_the_others(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    theirs = new_id(Prefix.PROJECT)
    await database.pool.execute("INSERT INTO projects (id, name) VALUES ($1, $1)", theirs)
    both = replace(caller, roles={**caller.roles, theirs: Role.ADMIN})
    gated = GatedNode()
    stuck = [await accept_spec(database, both, project, GATED) for _ in range(14)]
    async with running(database, redis, node_types(gated), capacity=10) as runner:
        runner.poll()
        await eventually(lambda: _is(len(runner.tasks) == 9))
        other = await accept_spec(database, both, theirs, SPEC)
        runner.poll()
        assert (await ended(database, other))["status"] == "COMPLETED"
        await eventually(lambda: _is(len(runner.tasks) == 9))
        gated.release.set()
        for run_id in stuck:
            assert (await ended(database, run_id))["status"] == "COMPLETED"


async def _is(true: bool) -> bool:
    return true


async def test_a_node_that_awaits_a_cancelled_future_fails_and_does_not_hang(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    class Broken(GatedNode):
        async def execute(self, config: GatedConfig, ctx: NodeContext) -> Output:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
            return Output(None)

    run_id = await accept_spec(database, caller, project, GATED)
    async with running(database, redis, node_types(Broken())) as runner:
        runner.poll()
        row = await ended(database, run_id)
    assert (row["status"], row["error"]["code"], row["error"]["node_id"]) == ("FAILED", "NODE", "gated")


@pytest.mark.parametrize("is_held", [True, False])
async def test_a_drain_releases_held_runs_and_runs_of_a_claim_in_progress(
    database: Database, redis: Redis, caller: Caller, project: str, is_held: bool
) -> None:
    gated = GatedNode()
    run_id = await accept_spec(database, caller, project, GATED)
    async with running(database, redis, node_types(gated)) as runner:
        runner.poll()
        if is_held:
            await gated.running.wait()
        else:
            await asyncio.sleep(0)
        await runner.drain(0.05)
        assert not runner.tasks
        row = await database.pool.fetchrow("SELECT status, crashes FROM runs WHERE id = $1", run_id)
        assert tuple(row) == ("QUEUED", 0)


async def test_the_journal_continues_after_it_lost_every_connection(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    spec = {"nodes": [node("a")], "edges": []}
    run_ids = [await accept_spec(database, caller, project, spec) for _ in range(5)]
    kill = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    async with running(database, redis) as runner:
        for run_id in run_ids:
            runner.poll()
            await database.pool.execute(kill)
            runner.poll()
            assert await ended_or_queued(database, run_id)
        assert not any(task.done() for task in runner.journal.tasks)


async def ended_or_queued(database: Database, run_id: str) -> bool:
    """Wait until the run has ended or is queued, so it is not stuck."""
    query = "SELECT true FROM runs WHERE id = $1 AND status IN ('COMPLETED', 'QUEUED')"
    async with asyncio.timeout(20):
        while True:
            try:
                if await database.pool.fetchval(query, run_id):
                    return True
            except DATABASE_ERRORS:
                await asyncio.sleep(0.05)
