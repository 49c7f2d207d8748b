"""Runs in any status, and all rows that are stored of a run."""

from typing import Any

from engine.states import RunStatus
from persistence.caller import Caller
from persistence.db.database import Database
from tests.journal_worker import JournalWorker, accept_run

S = RunStatus
RUN = "run { id status }"
QUESTION = "wait_01h455vb4pex5vsknk084sn02q"


async def in_status(database: Database, worker: JournalWorker, caller: Caller, project: str, status: RunStatus) -> str:
    """Return the id of a run in `status`, with one step, a checkpoint and an open question."""
    run = (await accept_run(database, caller, project)).run
    held = await worker.claim(run)
    await held.checkpoint("ckp_" + run.id[4:], step=1, next_nodes=["b"])
    await database.pool.execute("UPDATE runs SET status = $2, takeup = 1 WHERE id = $1", run.id, status)
    await database.pool.execute(
        """INSERT INTO waits (id, run_id, node_id, visit, lineage, seq, kind, prompt, schema)
        VALUES ($1, $2, 'a', 1, 0, 2, 'INPUT', $3, $4)""",
        QUESTION,
        run.id,
        "Is it ok?",
        {"type": "object", "required": ["ok"]},
    )
    return run.id


async def all_rows(database: Database, run_id: str) -> list[Any]:
    """Return all rows of a run, of every table."""
    tables = {"runs": "id", "events": "seq", "node_states": "node_id", "checkpoints": "seq", "waits": "id"}
    rows: list[Any] = []
    for table, order in tables.items():
        column = "id" if table == "runs" else "run_id"
        rows += await database.pool.fetch(f"SELECT * FROM {table} WHERE {column} = $1 ORDER BY {order}", run_id)
    return [dict(row) for row in rows]
