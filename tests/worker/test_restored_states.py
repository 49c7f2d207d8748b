"""States of nodes in loops that an earlier claim of the run has stored are shown again, with their values."""

from typing import Any

import pytest
from redis.asyncio import Redis

from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.runs.waits import open_waits
from tests.executor_worker import ExecutorWorker, accept_spec
from tests.worker.paused_runs import answer, execute


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


SPECS = {
    "the claim that skips it": (
        loop(("q", "h", None), ("b", "h", "h.output < 3"), ("b", "e", "h.output >= 3")),
        1,
    ),
    "a later claim": (loop(("b", "q", None), ("q", "h", "h.output < 2"), ("q", "e", "h.output >= 2")), 2),
}
_STATE = """
SELECT n.status, n.started_at, n.completed_at, n.usage, o.output FROM node_states n
LEFT JOIN node_outputs o ON o.run_id = n.run_id AND o.seq = n.output_seq WHERE n.run_id = $1 AND n.node_id = $2
"""


@pytest.mark.parametrize("shown_by", SPECS)
async def test_a_node_that_a_later_round_has_skipped_is_shown_again_as_an_earlier_claim_left_it(
    database: Database, redis: Redis, caller: Caller, project: str, shown_by: str
) -> None:
    spec, questions = SPECS[shown_by]
    run_id = await accept_spec(database, caller, project, spec)
    before = None
    async with ExecutorWorker(database, redis) as worker:
        for _ in range(questions):
            assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
            before = before or dict(await database.pool.fetchrow(_STATE, run_id, "a"))
            [wait] = await open_waits(database.pool, run_id)
            await answer(database, wait.id, "yes")
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    assert before is not None
    assert (before["status"], before["output"]) == ("COMPLETED", {"from": "the first round"})
    assert dict(await database.pool.fetchrow(_STATE, run_id, "a")) == before
