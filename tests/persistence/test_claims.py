"""The queue: who is claimed next, by whom, and how often; exact under any number of workers."""

import asyncio
import time
from typing import Any

import pytest

from persistence.caller import Caller
from persistence.claims import claim_next
from persistence.database import Database
from persistence.drafts import Content
from persistence.ids import new_id
from persistence.runs import NewRun, RunOptions, accept
from persistence.versions import adhoc
from tests.driving import SPEC


async def queued(
    database: Database, caller: Caller, project: str, *, priority: int = 0, lane: str | None = None, limit: int = 0
) -> str:
    """One more QUEUED run; with `limit`, in a lane of its own."""
    async with database.begin() as connection:
        version = await adhoc(connection, caller, project, Content(SPEC, "hash"))
        new = NewRun(project, None, version.id, {}, options=RunOptions(priority=priority))
        run_id = (await accept(connection, caller, new)).run.id
    if limit:
        await database.pool.execute("UPDATE runs SET lane = $2, lane_limit = $3 WHERE id = $1", run_id, lane, limit)
    return run_id


async def claim(database: Database, free: int, worker: str = "w", **rest: Any) -> list[str]:
    return [claimed.id for claimed, _ in await claim_next(database.pool, worker, 60, free, **rest)]


async def other_project(database: Database) -> str:
    project = new_id("prj")
    await database.pool.execute("INSERT INTO projects (id, name) VALUES ($1, $1)", project)
    return project


def both(caller: Caller, project: str, other: str) -> Caller:
    role = caller.roles[project]
    return Caller(caller.subject, {project: role, other: role})


async def test_an_empty_queue_gives_nothing(database: Database) -> None:
    assert await claim(database, 5) == []


async def test_within_a_project_priority_goes_before_age(database: Database, caller: Caller, project: str) -> None:
    old = await queued(database, caller, project)
    urgent = await queued(database, caller, project, priority=5)
    new = await queued(database, caller, project)
    assert [await claim(database, 1) for _ in range(3)] == [[urgent], [old], [new]]


async def test_a_project_with_a_long_queue_does_not_hold_up_another(
    database: Database, caller: Caller, project: str
) -> None:
    other = await other_project(database)
    wide = both(caller, project, other)
    crowd = [await queued(database, wide, project, priority=50) for _ in range(30)]
    late = [await queued(database, wide, other) for _ in range(3)]
    first = await claim(database, 6)
    assert set(late) < set(first)
    assert set(await claim(database, 50)) == set(crowd) - set(first)


async def test_every_run_is_claimed_once_whoever_claims(database: Database, caller: Caller, project: str) -> None:
    runs = {await queued(database, caller, project) for _ in range(60)}
    won: list[str] = []
    for _ in range(40):
        rounds = await asyncio.gather(*(claim(database, 3, f"worker {n}") for n in range(5)))
        won += [run_id for one in rounds for run_id in one]
        if len(won) == len(runs):
            break
    assert sorted(won) == sorted(runs)
    epochs = await database.pool.fetch("SELECT DISTINCT epoch, attempt, last_seq FROM runs")
    assert [tuple(row) for row in epochs] == [(1, 1, 2)]


async def test_a_limited_lane_never_runs_more_than_its_limit_and_holds_up_nobody_else(
    database: Database, caller: Caller, project: str
) -> None:
    limited = {await queued(database, caller, project, lane="wf_x", limit=2) for _ in range(20)}
    free = {await queued(database, caller, project) for _ in range(3)}
    won = [one for got in await asyncio.gather(*(claim(database, 10, f"w{n}") for n in range(5))) for one in got]
    won += await claim(database, 10)
    assert set(won) >= free
    assert len(limited & set(won)) == 2
    ended = next(iter(limited & set(won)))
    await database.pool.execute("UPDATE runs SET status = 'COMPLETED' WHERE id = $1", ended)
    assert len(await claim(database, 10)) == 1


async def test_a_limit_for_projects_counts_all_their_runs(database: Database, caller: Caller, project: str) -> None:
    other = await other_project(database)
    wide = both(caller, project, other)
    for owner in (project, other):
        for _ in range(6):
            await queued(database, wide, owner)
    won = await asyncio.gather(*(claim(database, 10, f"w{n}", project_limit=2) for n in range(4)))
    assert len([one for got in won for one in got]) == 4
    counts = await database.pool.fetch("SELECT count(*) FROM runs WHERE status = 'RUNNING' GROUP BY project_id")
    assert [row["count"] for row in counts] == [2, 2]


@pytest.mark.parametrize("many", [20_000])
async def test_a_claim_costs_the_same_however_long_the_queue_is(
    database: Database, caller: Caller, project: str, many: int
) -> None:
    async def cost() -> float:
        took = []
        for _ in range(15):
            began = time.perf_counter()
            await claim(database, 2)
            took.append(time.perf_counter() - began)
        return sorted(took)[len(took) // 2]

    template = await queued(database, caller, project)
    copy = """INSERT INTO runs (id, project_id, version_id, source, mode, status, inputs, options, created_by, lane,
        queued_at) SELECT 'run_' || n, project_id, version_id, source, mode, 'QUEUED', inputs, options, created_by, lane,
        now() FROM runs, generate_series($2::int, $3::int) n WHERE id = $1"""
    await database.pool.execute(copy, template, 1, 60)
    few = await cost()
    await database.pool.execute(copy, template, 1000, 1000 + many)
    await database.pool.execute("ANALYZE runs")
    assert await cost() < few * 5 + 0.005
