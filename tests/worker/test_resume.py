"""A run that loses its worker at any commit goes on from there: the same result, and no finished node runs again."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from persistence.caller import Caller
from persistence.db.database import Database
from tests.executor_worker import ExecutorWorker, Killed, accept_spec, edges, node, run_summary
from tests.worker.spec_samples import SPECS


async def play(database: Database, redis: Redis, run_id: str, deaths: list[tuple[int, bool]]) -> int:
    """Runs to the end through the given deaths; returns how many take-ups that was."""
    async with ExecutorWorker(database, redis) as worker:
        for number, (at, before) in enumerate([*deaths, (10**6, False)], 1):
            executor = await worker.claim(run_id, at, before)
            try:
                await asyncio.wait_for(executor.run(), 20)
            except Killed:
                continue
            return number
    raise AssertionError("the last take-up must end")


@pytest.mark.parametrize("name", SPECS)
async def test_a_death_at_any_commit_changes_nothing_and_repeats_nothing(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    spec = SPECS[name]
    whole = await accept_spec(database, caller, project, spec)
    await play(database, redis, whole, [])
    expected = await run_summary(database, whole)
    assert expected[3] == "COMPLETED"
    for at in range(1, len(expected[2])):
        for before in (True, False):
            run_id = await accept_spec(database, caller, project, spec)
            takeups = await play(database, redis, run_id, [(at, before)])
            output, visits, numbers, status = await run_summary(database, run_id)
            assert (status, output) == ("COMPLETED", expected[0]), (at, before)
            assert visits == expected[1], (at, before)
            assert numbers == list(range(1, len(numbers) + 1))
            if takeups == 1:
                break
        if takeups == 1:
            break


@pytest.mark.parametrize("name", SPECS)
async def test_a_worker_that_dies_at_every_second_commit_still_gets_there(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    spec = SPECS[name]
    whole = await accept_spec(database, caller, project, spec)
    await play(database, redis, whole, [])
    run_id = await accept_spec(database, caller, project, spec)
    await play(database, redis, run_id, [(2, False)] * 60)
    assert (await run_summary(database, run_id))[:2] == (await run_summary(database, whole))[:2]


FAILING: dict[str, Any] = {
    "a quick node": {
        "nodes": [
            node("a"),
            {"id": "f", "type": "transform", "config": {"output": "{{ a.output.no.such }}"}},
            node("z"),
        ],
        "edges": edges("a>f f>z"),
    },
    "a launched node": {
        "nodes": [node("a"), {"id": "f", "type": "tick", "config": {"output": "{{ a.output.no.such }}"}}, node("z")],
        "edges": edges("a>f f>z"),
    },
    "the condition of an edge": {"nodes": [node("a"), node("z")], "edges": edges("a>z", a_z="a.output.no.such > 1")},
    "a loop without end": {
        "nodes": [node("s"), node("h", maxVisits=3), node("x")],
        "edges": edges("s>h h>h h>x", h_h="true", h_x="false"),
    },
}


@pytest.mark.parametrize("name", FAILING)
async def test_a_run_that_loses_its_worker_while_it_fails_still_fails_with_that_error(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    whole = await accept_spec(database, caller, project, FAILING[name])
    await play(database, redis, whole, [])
    error = await database.pool.fetchval("SELECT error FROM runs WHERE id = $1", whole)
    assert error is not None
    for at in range(1, 20):
        for before in (True, False):
            run_id = await accept_spec(database, caller, project, FAILING[name])
            takeups = await play(database, redis, run_id, [(at, before)])
            row = await database.pool.fetchrow("SELECT status, error FROM runs WHERE id = $1", run_id)
            assert (row["status"], row["error"]) == ("FAILED", error), (at, before)
        if takeups == 1:
            break
