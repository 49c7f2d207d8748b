"""Claims: the order, the limits, and one worker for each run, under any number of workers."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from engine.events import StatusChange
from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.advisory_locks import AdvisoryLock
from persistence.db.database import Database
from persistence.db.ids import new_id
from persistence.queue.claims import claim_next
from persistence.runs.create import NewRun, accept
from persistence.runs.run import RunOptions
from persistence.workflows.drafts import Content
from persistence.workflows.versions import ensure_adhoc
from tests.journal_worker import SPEC
from tests.samples import sample


async def queued(
    database: Database, caller: Caller, project: str, *, priority: int = 0, key: str | None = None, limit: int = 0
) -> str:
    """Queue a run; with `limit`, under the concurrency key `key`."""
    async with database.begin() as connection:
        version = await ensure_adhoc(connection, caller, project, Content(SPEC, "hash"))
        new = NewRun(project, None, version.id, {}, options=RunOptions(priority=priority))
        run_id = (await accept(connection, caller, new)).run.id
    if limit:
        await database.pool.execute("UPDATE runs SET lane = $2, lane_limit = $3 WHERE id = $1", run_id, key, limit)
    return run_id


async def claim(database: Database, free: int, worker: str = "w", **rest: Any) -> list[str]:
    return [run.id for run in (await claim_next(database.pool, worker, 60, free, **rest)).runs]


async def other_project(database: Database) -> str:
    project = new_id("prj")
    await database.pool.execute("INSERT INTO projects (id, name) VALUES ($1, $1)", project)
    return project


def both(caller: Caller, project: str, other: str) -> Caller:
    role = caller.roles[project]
    return Caller(caller.subject, {project: role, other: role})


async def test_a_claim_from_an_empty_queue_is_empty(database: Database) -> None:
    assert await claim(database, 5) == []


async def test_a_claim_reports_whether_the_end_of_a_run_may_let_in_more(
    database: Database, caller: Caller, project: str
) -> None:
    async def has_more(free: int, project_limit: int | None = None) -> bool:
        return (await claim_next(database.pool, "w", 60, free, project_limit)).has_more

    assert not await has_more(1)
    assert await has_more(1, project_limit=5)
    for _ in range(3):
        await queued(database, caller, project)
    assert await has_more(2)
    assert not await has_more(2)
    await queued(database, caller, project, key="narrow", limit=1)
    await queued(database, caller, project, key="narrow", limit=1)
    assert await has_more(5)
    assert await has_more(5)


async def test_inside_a_project_priority_goes_before_age(database: Database, caller: Caller, project: str) -> None:
    old = await queued(database, caller, project)
    urgent = await queued(database, caller, project, priority=5)
    new = await queued(database, caller, project)
    assert [await claim(database, 1) for _ in range(3)] == [[urgent], [old], [new]]


async def test_a_project_with_a_long_queue_does_not_delay_another(
    database: Database, caller: Caller, project: str
) -> None:
    other = await other_project(database)
    wide = both(caller, project, other)
    crowd = [await queued(database, wide, project, priority=50) for _ in range(30)]
    late = [await queued(database, wide, other) for _ in range(3)]
    first = await claim(database, 6)
    assert set(late) < set(first)
    assert set(await claim(database, 50)) == set(crowd) - set(first)


async def test_every_run_is_claimed_by_one_of_several_workers(database: Database, caller: Caller, project: str) -> None:
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


async def test_a_limited_key_never_runs_more_than_its_limit_and_delays_no_other(
    database: Database, caller: Caller, project: str
) -> None:
    limited = {await queued(database, caller, project, key="wf_x", limit=2) for _ in range(20)}
    free = {await queued(database, caller, project) for _ in range(3)}
    won = [one for got in await asyncio.gather(*(claim(database, 10, f"w{n}") for n in range(5))) for one in got]
    won += await claim(database, 10)
    assert set(won) >= free
    assert len(limited & set(won)) == 2
    ended = next(iter(limited & set(won)))
    await database.pool.execute("UPDATE runs SET status = 'COMPLETED' WHERE id = $1", ended)
    assert len(await claim(database, 10)) == 1


async def test_a_project_limit_counts_all_runs_of_the_project(database: Database, caller: Caller, project: str) -> None:
    other = await other_project(database)
    wide = both(caller, project, other)
    for owner in (project, other):
        for _ in range(6):
            await queued(database, wide, owner)
    won = await asyncio.gather(*(claim(database, 10, f"w{n}", project_limit=2) for n in range(4)))
    assert len([one for got in won for one in got]) == 4
    counts = await database.pool.fetch("SELECT count(*) FROM runs WHERE status = 'RUNNING' GROUP BY project_id")
    assert [row["count"] for row in counts] == [2, 2]


async def test_concurrent_claims_all_get_runs_while_enough_are_queued(
    database: Database, caller: Caller, project: str
) -> None:
    await insert_copies(database, await queued(database, caller, project), 400)
    won = await asyncio.gather(*(claim(database, 40, f"worker {n}") for n in range(5)))
    assert [len(one) for one in won] == [40] * 5
    assert len({run_id for one in won for run_id in one}) == 200


async def test_one_claim_takes_at_most_48_runs(database: Database, caller: Caller, project: str) -> None:
    await insert_copies(database, await queued(database, caller, project), 99)
    assert [len(await claim(database, 100)) for _ in range(3)] == [48, 48, 4]


async def test_the_runs_of_a_claim_are_leased_and_have_an_event(
    database: Database, caller: Caller, project: str
) -> None:
    first, second = [await queued(database, caller, project) for _ in range(2)]
    batch = await claim_next(database.pool, "worker 1", 60, 5)
    assert [run.id for run in batch.runs] == [change.run_id for change in batch.transitions]
    assert {run.id for run in batch.runs} == {first, second}
    [event] = batch.transitions[0].events
    assert event.data == StatusChange(RunStatus.RUNNING, RunStatus.QUEUED, "Started")
    assert (event.seq, event.at, batch.runs[0].epoch) == (2, batch.runs[0].now, 1)
    leased = "SELECT bool_and(lease_until BETWEEN now() + interval '50 s' AND now() + interval '60 s') FROM runs"
    assert await database.pool.fetchval(leased)
    await database.pool.execute("UPDATE runs SET status = 'QUEUED', worker_id = NULL")
    again = await claim_next(database.pool, "worker 2", 60, 5)
    assert {run.epoch for run in again.runs} == {2}
    assert {change.events[0].data.message for change in again.transitions} == {"Claimed again"}  # type: ignore[union-attr]


async def test_a_limited_run_is_claimed_however_many_others_are_queued(
    database: Database, caller: Caller, project: str
) -> None:
    other = await other_project(database)
    wide = both(caller, project, other)
    await insert_copies(database, await queued(database, wide, project, priority=50), 100)
    limited = await queued(database, wide, other, key="wf_x", limit=1)
    assert limited in await claim(database, 3)


async def test_a_worker_that_hangs_while_it_counts_delays_others_only_briefly(
    database: Database, database_url: str, caller: Caller, project: str
) -> None:
    limited = await queued(database, caller, project, key="wf_x", limit=1)
    free = await queued(database, caller, project)
    async with hanging_claim(database_url):
        async with asyncio.timeout(10):
            assert await claim(database, 10) == [free]
            assert await claim(database, 10, project_limit=5) == []
    assert await claim(database, 10) == [limited]


class CountingPool:
    """A pool that counts the claims, and releases what another worker has locked after the first one."""

    def __init__(self, pool: asyncpg.Pool, release: Callable[[], Awaitable[None]] | None = None) -> None:
        self._pool, self._release, self.count = pool, release, 0

    async def fetch(self, *arguments: Any) -> Any:
        rows = await self._pool.fetch(*arguments)
        self.count += 1
        if self.count == 1 and self._release is not None:
            await self._release()
        return rows


@pytest.mark.parametrize(("locked", "share", "first", "second"), [(3, None, {3, 4}, {0, 1}), (2, 3, {2}, {0, 1})])
async def test_a_claim_tries_again_for_the_rest_if_other_workers_were_faster(
    database: Database,
    database_url: str,
    caller: Caller,
    project: str,
    locked: int,
    share: int | None,
    first: set[int],
    second: set[int],
) -> None:
    """Another worker holds some of five runs, and gives them up after the first attempt."""
    runs = [await queued(database, caller, project) for _ in range(5)]
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.fetch("SELECT FROM runs WHERE id = ANY($1) FOR UPDATE", runs[:locked])
    pool = CountingPool(database.pool, transaction.rollback)
    batch = await claim_next(pool, "w", 60, 4, share=share)  # type: ignore[arg-type]
    await other.close()
    claimed = [runs.index(run.id) for run in batch.runs]
    assert (set(claimed[: len(first)]), set(claimed[len(first) :])) == (first, second)
    assert [change.run_id for change in batch.transitions] == [run.id for run in batch.runs]
    assert (pool.count, batch.has_more) == (2, share is None)


@pytest.mark.parametrize("free", [1, 2, 3])
async def test_a_claim_that_no_other_worker_disturbs_is_one_statement(
    database: Database, caller: Caller, project: str, free: int
) -> None:
    for _ in range(2):
        await queued(database, caller, project)
    pool = CountingPool(database.pool)
    batch = await claim_next(pool, "w", 60, free)  # type: ignore[arg-type]
    assert (len(batch.runs), pool.count) == (min(free, 2), 1)


@asynccontextmanager
async def hanging_claim(database_url: str) -> AsyncIterator[None]:
    """A worker that holds the lock of the limits and sends no more statements."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", AdvisoryLock.LIMITS)
            yield
    finally:
        await connection.close()


@dataclass
class QueuedRun:
    """The properties of a run that decide its order."""

    id: str
    project: str
    key: str
    limit: int | None
    priority: int
    age: int


def expected_claim(queue: list[QueuedRun], held: list[QueuedRun], free: int, project_limit: int | None) -> list[str]:
    """The rules of claims.py as a plain program: sort, count, cut."""
    by_key: dict[str, list[QueuedRun]] = defaultdict(list)
    for run in sorted(queue, key=lambda one: (-one.priority, -one.age, one.id)):
        free_places = len(queue) if run.limit is None else run.limit - sum(one.key == run.key for one in held)
        if len(by_key[run.key]) < free_places:
            by_key[run.key].append(run)
    ranked = []
    for project in {run.project for run in queue}:
        has = sum(one.project == project for one in held)
        own = [run for runs in by_key.values() for run in runs if run.project == project]
        for place, run in enumerate(sorted(own, key=lambda one: (-one.priority, -one.age, one.id)), 1):
            ranked.append((has + place, -run.priority, -run.age, run.id))
    allowed = [one for one in sorted(ranked) if project_limit is None or one[0] <= project_limit]
    return [run_id for *_, run_id in allowed[:free]]


@pytest.mark.parametrize("seed", range(25))
async def test_a_claim_follows_the_rules(database: Database, caller: Caller, project: str, seed: int) -> None:
    draw = random.Random(seed)
    template = await queued(database, caller, project)
    projects = [project, *[await other_project(database) for _ in range(draw.randrange(4))]]
    keys = {one: [(one, None)] for one in projects}
    for number in range(draw.choice([0, 3, 90])):
        keys[draw.choice(projects)].append((f"wf_{number:03}", draw.randint(1, 3)))
    runs: list[tuple[str, QueuedRun]] = []
    for number in range(draw.choice([10, 300])):
        owner = draw.choice(projects)
        key, limit = draw.choice(keys[owner])
        status = draw.choice(["QUEUED"] * 6 + ["RUNNING", "CANCELLING"])
        run = QueuedRun(f"run_{number:04}", owner, key, limit, draw.choice([0, 0, 5]), draw.randrange(50))
        runs.append((status, run))
    await replace_template(database, template, runs)
    queue = [run for status, run in runs if status == "QUEUED"]
    held = [run for status, run in runs if status != "QUEUED"]
    free, project_limit = draw.choice([1, 7, 48]), draw.choice([None, None, 20, 120])
    won = await claim(database, free, project_limit=project_limit)
    assert sorted(won) == sorted(expected_claim(queue, held, free, project_limit))


async def replace_template(database: Database, template: str, runs: list[tuple[str, QueuedRun]]) -> None:
    """Insert the runs, and delete the template."""
    await database.pool.executemany(
        """INSERT INTO runs (id, project_id, version_id, source, mode, status, inputs, options, created_by, lane,
        lane_limit, priority, queued_at) SELECT $2, $3, version_id, source, mode, $4, inputs, options, created_by, $5,
        $6, $7, '2026-01-01'::timestamptz - make_interval(secs => $8) FROM runs WHERE id = $1""",
        [(template, r.id, r.project, status, r.key, r.limit, r.priority, r.age) for status, r in runs],
    )
    await database.pool.execute("DELETE FROM runs WHERE id = $1", template)


async def insert_copies(database: Database, template: str, many: int, keys: int = 0) -> None:
    """Insert `many` copies of a run; with `keys`, distributed over that many keys with a limit."""
    await database.pool.execute(
        """INSERT INTO runs (id, project_id, version_id, source, mode, status, inputs, options, created_by, lane,
        lane_limit, queued_at) SELECT 'run_' || $2::int || '_' || n, project_id, version_id, source, mode, 'QUEUED', inputs,
        options, created_by, CASE $3::int WHEN 0 THEN lane ELSE 'wf_' || n % $3 END,
        CASE $3 WHEN 0 THEN lane_limit ELSE 1000000 END, now()
        FROM runs, generate_series(1, $2) n WHERE id = $1""",
        template,
        many,
        keys,
    )
    await database.pool.execute("ANALYZE runs")


@pytest.mark.parametrize("keys", [0, 50])
async def test_a_claim_costs_the_same_however_long_the_queue_is(
    database: Database, caller: Caller, project: str, keys: int
) -> None:
    async def cost() -> float:
        durations = []
        for _ in range(15):
            began = time.perf_counter()
            assert len(await claim(database, 2)) == 2
            durations.append(time.perf_counter() - began)
        return min(durations)  # the other ones waited for other programs too

    template = await queued(database, caller, project)
    await insert_copies(database, template, 200, keys)
    few = await cost()
    await insert_copies(database, template, sample(20_000, 100_000), keys)
    assert await cost() < few * 5 + 0.005


async def test_a_worker_executes_no_more_runs_of_one_project_than_its_share(
    database: Database, caller: Caller, project: str
) -> None:
    """The runs of other projects get the rest, also if the project was there first."""
    theirs = await other_project(database)
    caller = both(caller, project, theirs)
    own = [await queued(database, caller, project) for _ in range(6)]
    assert set(await claim(database, 10, share=4)) == set(own[:4])
    assert await claim(database, 6, share=4, held={project: 4}) == []
    other = await queued(database, caller, theirs)
    assert await claim(database, 6, share=4, held={project: 4}) == [other]
    assert await claim(database, 6, share=4, held={project: 3, theirs: 1}) == own[4:5]
    assert await claim(database, 6, worker="another") == own[5:]
