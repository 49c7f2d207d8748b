"""States of nodes in loops that an earlier claim of the run has stored are shown again, with their values."""

from typing import Any

from redis.asyncio import Redis

from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.runs.waits import open_waits
from tests.executor_worker import ExecutorWorker, accept_spec
from tests.worker.paused_runs import answer, execute


def value(node_id: str, output: Any, **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "type": "transform", "config": {"output": output}, **fields}


SPEC: dict[str, Any] = {
    "nodes": [
        {"id": "s", "type": "start", "config": {}},
        value("h", "{{ (h.last_output or 0) + 1 }}"),
        value("a", {"from": "the first round"}),
        value("b", "second"),
        {"id": "q", "type": "ask", "config": {"prompt": "go on?"}},
        value("e", "{{ a.output }}"),
    ],
    "edges": [
        {"source": "s", "target": "h"},
        {"source": "h", "target": "a", "condition": "h.output == 1"},
        {"source": "h", "target": "b", "condition": "h.output > 1"},
        {"source": "a", "target": "q"},
        {"source": "q", "target": "h"},
        {"source": "b", "target": "h", "condition": "h.output < 3"},
        {"source": "b", "target": "e", "condition": "h.output >= 3"},
    ],
}
_STATE = """
SELECT n.status, o.output FROM node_states n
LEFT JOIN node_outputs o ON o.run_id = n.run_id AND o.seq = n.output_seq WHERE n.run_id = $1 AND n.node_id = $2
"""


async def test_a_node_that_an_earlier_claim_executed_keeps_its_output_after_a_later_round_skipped_it(
    database: Database, redis: Redis, caller: Caller, project: str
) -> None:
    run_id = await accept_spec(database, caller, project, SPEC)
    async with ExecutorWorker(database, redis) as worker:
        assert await execute(await worker.claim(run_id)) is RunStatus.WAITING
        [wait] = await open_waits(database.pool, run_id)
        await answer(database, wait.id, "yes")
        assert await execute(await worker.claim(run_id)) is RunStatus.COMPLETED
    row = await database.pool.fetchrow(_STATE, run_id, "a")
    assert (row["status"], row["output"]) == ("COMPLETED", {"from": "the first round"})
