"""A run that loses its worker at any commit goes on from there: the same result, and no finished node runs again."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from persistence.caller import Caller
from persistence.database import Database
from tests.taking_up import Killed, Worker, accept_spec, edges, node, told

SPECS: dict[str, Any] = {
    "quick chain": {"nodes": [node(n) for n in "abcd"], "edges": edges("a>b b>c c>d")},
    "launched chain": {"nodes": [node(n, "tick") for n in "abcd"], "edges": edges("a>b b>c c>d")},
    "branches of both kinds that join": {
        "nodes": [node("a"), node("b", "tick", 3), node("b2"), node("c"), node("c2", "tick"), node("c3"), node("j")],
        "edges": edges("a>b b>b2 a>c c>c2 c2>c3 b2>j c3>j"),
    },
    "a loop with a launched node, beside a slow branch": {
        "nodes": [node("s"), node("h"), node("w", "tick", 2), node("x"), node("slow", "tick", 40), node("end")],
        "edges": edges("s>h h>w w>h w>x s>slow slow>end x>end", w_h="w.output < 4", w_x="w.output >= 4"),
    },
    "nested loops with dead branches": {
        "nodes": [node("o"), node("i", "tick"), node("k"), node("dead"), node("e", "tick"), node("x")],
        "edges": edges(
            "__start__>o o>i i>k k>i k>dead k>e dead>x e>o e>x",
            k_i="k.output % 3 != 0",
            k_dead="false",
            k_e="k.output % 3 == 0",
            e_o="e.output < 2",
            e_x="e.output >= 2",
        ),
    },
    "join any over launched nodes": {
        "nodes": [node("a"), node("b", "tick", 20), node("c", "tick"), node("j", join="any"), node("z")],
        "edges": edges("a>b a>c b>j c>j j>z"),
    },
}


async def play(database: Database, redis: Redis, run_id: str, deaths: list[tuple[int, bool]]) -> int:
    """Runs to the end through the given deaths; returns how many take-ups that was."""
    async with Worker(database, redis) as worker:
        for number, (at, before) in enumerate([*deaths, (10**6, False)], 1):
            drive = await worker.take_up(run_id, at, before)
            try:
                await asyncio.wait_for(drive.run(), 20)
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
    expected = await told(database, whole)
    assert expected[3] == "COMPLETED"
    for at in range(1, len(expected[2])):
        for before in (True, False):
            run_id = await accept_spec(database, caller, project, spec)
            takeups = await play(database, redis, run_id, [(at, before)])
            output, visits, numbers, status = await told(database, run_id)
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
    assert (await told(database, run_id))[:2] == (await told(database, whole))[:2]


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
