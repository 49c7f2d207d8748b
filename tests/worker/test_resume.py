"""A run whose worker dies at any commit continues there, and no finished node runs again."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.runs.waits import open_waits
from tests.executor_worker import ExecutorWorker, Killed, accept_spec, edges, node, run_summary
from tests.samples import sample
from tests.worker.paused_runs import answer, execute
from tests.worker.spec_samples import SPECS


async def execute_with_crashes(database: Database, redis: Redis, run_id: str, crashes: list[tuple[int, bool]]) -> int:
    """Execute a run to its end. Return the number of claims.

    Each crash is the number of a commit of its claim, and whether it happens before the commit.
    """
    async with ExecutorWorker(database, redis) as worker:
        for number, (at, before) in enumerate([*crashes, (10**6, False)], 1):
            executor = await worker.claim(run_id, at, before)
            try:
                await asyncio.wait_for(executor.run(), 20)
            except Killed:
                continue
            return number
    raise AssertionError("the run must end after the last claim")


@pytest.mark.parametrize("name", SPECS)
async def test_a_crash_at_any_commit_changes_no_result_and_repeats_no_node(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    spec = SPECS[name]
    reference_id = await accept_spec(database, caller, project, spec)
    await execute_with_crashes(database, redis, reference_id, [])
    expected = await run_summary(database, reference_id)
    assert expected[3] == "COMPLETED"
    for at in range(1, len(expected[2]), sample(2, 1)):
        for before in (True, False):
            run_id = await accept_spec(database, caller, project, spec)
            claims = await execute_with_crashes(database, redis, run_id, [(at, before)])
            output, visits, numbers, status = await run_summary(database, run_id)
            assert (status, output) == ("COMPLETED", expected[0]), (at, before)
            assert visits == expected[1], (at, before)
            assert numbers == list(range(1, len(numbers) + 1))
            if claims == 1:
                break
        if claims == 1:
            break


@pytest.mark.parametrize("name", SPECS)
async def test_a_run_whose_workers_die_at_every_second_commit_completes(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    spec = SPECS[name]
    reference_id = await accept_spec(database, caller, project, spec)
    await execute_with_crashes(database, redis, reference_id, [])
    run_id = await accept_spec(database, caller, project, spec)
    await execute_with_crashes(database, redis, run_id, [(2, False)] * 60)
    assert (await run_summary(database, run_id))[:2] == (await run_summary(database, reference_id))[:2]


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
async def test_a_run_whose_worker_dies_while_it_fails_fails_with_the_same_error(
    database: Database, redis: Redis, caller: Caller, project: str, name: str
) -> None:
    reference_id = await accept_spec(database, caller, project, FAILING[name])
    await execute_with_crashes(database, redis, reference_id, [])
    error = await database.pool.fetchval("SELECT error FROM runs WHERE id = $1", reference_id)
    assert error is not None
    for at in range(1, 20):
        for before in (True, False):
            run_id = await accept_spec(database, caller, project, FAILING[name])
            claims = await execute_with_crashes(database, redis, run_id, [(at, before)])
            row = await database.pool.fetchrow("SELECT status, error FROM runs WHERE id = $1", run_id)
            assert (row["status"], row["error"]) == ("FAILED", error), (at, before)
        if claims == 1:
            break


def value(node_id: str, output: Any, **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "type": "transform", "config": {"output": output}, **fields}


def loop(*edges: tuple[str, str, str | None]) -> dict[str, Any]:
    """A loop over `h`: the node `a` runs in the first round only, and `q` asks a question."""
    nodes = [
        {"id": "s", "type": "start", "config": {}},
        value("h", "{{ (h.last_output or 0) + 1 }}"),
        {"id": "a", "type": "transform", "config": {"output": {"from": "the first round"}}},
        value("b", "second"),
        {"id": "q", "type": "ask", "join": "any", "config": {"prompt": "go on?"}},
        value("e", "{{ a.output }}"),
    ]
    first: list[tuple[str, str, str | None]] = [
        ("s", "h", None),
        ("h", "a", "h.output == 1"),
        ("h", "b", "h.output > 1"),
        ("a", "q", None),
    ]
    return {
        "nodes": nodes,
        "edges": [{"source": s, "target": t, "condition": condition} for s, t, condition in [*first, *edges]],
    }


SHOWN_AGAIN = {
    "the claim that skips it": (
        loop(("q", "h", None), ("b", "h", "h.output < 3"), ("b", "e", "h.output >= 3")),
        1,
    ),
    "a later claim": (loop(("b", "q", None), ("q", "h", "h.output < 2"), ("q", "e", "h.output >= 2")), 2),
}
_SHOWN = """
SELECT n.status, n.started_at, n.completed_at, n.usage, o.input, o.output FROM node_states n
LEFT JOIN node_outputs o ON o.run_id = n.run_id AND o.seq = n.output_seq WHERE n.run_id = $1 AND n.node_id = $2
"""


@pytest.mark.parametrize("shown_by", SHOWN_AGAIN)
async def test_a_node_that_a_later_round_has_skipped_is_shown_again_as_an_earlier_claim_left_it(
    database: Database, redis: Redis, caller: Caller, project: str, shown_by: str
) -> None:
    spec, questions = SHOWN_AGAIN[shown_by]
    run_id = await accept_spec(database, caller, project, spec)
    before = None
    async with ExecutorWorker(database, redis) as worker:
        for _ in range(questions):
            assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
            before = before or dict(await database.pool.fetchrow(_SHOWN, run_id, "a"))
            [wait] = await open_waits(database.pool, run_id)
            await answer(database, wait.id, "yes")
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert before is not None
    assert (before["status"], before["output"]) == ("COMPLETED", {"from": "the first round"})
    assert dict(await database.pool.fetchrow(_SHOWN, run_id, "a")) == before
