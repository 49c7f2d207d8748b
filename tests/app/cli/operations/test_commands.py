"""`treadle runs|workflows|triggers|workers|queue|logs`: their output for people and for programs."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.cli.client import ApiClient
from app.cli.main import app
from app.cli.operations.logs import LogPrinter
from app.cli.operations.objects import RUNS as RUNS_KIND
from app.cli.operations.objects import explanation, list_objects
from engine.events import LogRecorded
from engine.states import LogLevel
from persistence.caller import Caller
from persistence.db.database import Database, dsn
from persistence.maintenance.presence import Presence
from persistence.runs import run as stored_runs
from tests.journal_worker import JournalWorker

pytestmark = pytest.mark.usefixtures("silent_server")
SPEC = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
EVERY = {"kind": "schedule", "config": {"cron": "0 9 * * *", "timezone": "UTC"}}


async def treadle(*arguments: str, code: int = 0) -> str:
    """Run the command in a thread, as it runs an event loop of its own, and return its output."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


async def execute(client: httpx.AsyncClient, query: str, **variables: Any) -> Any:
    body = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    assert "errors" not in body, body
    return body["data"]


@pytest.fixture
async def workflow(client: httpx.AsyncClient) -> str:
    """A published workflow with a trigger."""
    data = await execute(
        client,
        'mutation ($spec: JSON!) { createWorkflow(input: {name: "Daily [report]", spec: $spec}) { workflow { id } } }',
        spec=SPEC,
    )
    workflow_id: str = data["createWorkflow"]["workflow"]["id"]
    await execute(
        client,
        "mutation ($id: ID!) { createVersion(input: {workflowId: $id, publish: true}) { version { id } } }",
        id=workflow_id,
    )
    await execute(
        client,
        """mutation ($id: ID!, $kind: String!, $config: JSON!) {
        createTrigger(input: {workflowId: $id, kind: $kind, name: "Nine", config: $config}) { trigger { id } } }""",
        id=workflow_id,
        **EVERY,
    )
    return workflow_id


@pytest.fixture
async def run_id(client: httpx.AsyncClient, workflow: str) -> str:
    """A QUEUED run of the workflow."""
    data = await execute(
        client, "mutation ($id: ID!) { runWorkflow(input: {workflowId: $id}) { run { id } } }", id=workflow
    )
    return str(data["runWorkflow"]["run"]["id"])


async def test_lists_are_tables_for_people_and_json_for_programs(address: str, workflow: str, run_id: str) -> None:
    at = ("--url", f"http://{address}")
    expected = [("runs", run_id, "QUEUED"), ("workflows", workflow, "Daily [report]"), ("queue", run_id, "NO_WORKER")]
    for command, id, text in expected:
        table = await treadle(command, *at)
        [row] = [line for line in table.splitlines() if id in line]
        assert text in row
        [listed] = json.loads(await treadle(command, "--json", *at))
        assert listed["id"] == id
    [trigger] = json.loads(await treadle("triggers", "--json", *at))
    assert trigger["name"] == "Nine"
    assert "nextTimes" in await treadle("triggers", trigger["id"], *at)
    assert json.loads(await treadle("workers", "--json", *at)) == []
    assert "no worker is alive" in await treadle("workers", *at)


async def test_one_object_is_shown(address: str, workflow: str, run_id: str) -> None:
    at = ("--url", address)
    assert "queueReason" in await treadle("runs", run_id, *at)
    shown = json.loads(await treadle("runs", run_id, "--json", *at))
    assert (shown["id"], shown["queueReason"]["code"]) == (run_id, "NO_WORKER")
    text = await treadle("workflows", workflow, *at)
    assert "Daily [report]" in text
    assert "Nine" in text


async def test_filters_reach_the_server(address: str, workflow: str, run_id: str) -> None:
    at = ("--json", "--url", address)
    assert len(json.loads(await treadle("runs", "--status", "QUEUED", "--workflow", workflow, *at))) == 1
    assert json.loads(await treadle("runs", "--status", "FAILED", *at)) == []
    assert json.loads(await treadle("runs", "--tag", "other", *at)) == []
    assert len(json.loads(await treadle("runs", "--project", "default", *at))) == 1
    assert json.loads(await treadle("workflows", "--search", "nothing", *at)) == []
    assert "no project with the id or name 'x'" in await treadle("runs", "--project", "x", *at, code=1)


async def test_a_list_longer_than_a_page_is_read_to_its_limit(
    address: str, client: httpx.AsyncClient, workflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.operations.objects.PAGE", 2)
    aliases = " ".join(f'r{n}: runWorkflow(input: {{workflowId: "{workflow}"}}) {{ run {{ id }} }}' for n in range(5))
    created = [one["run"]["id"] for one in (await execute(client, f"mutation {{ {aliases} }}")).values()]
    listed = await list_objects(ApiClient(address), RUNS_KIND, limit=5)
    assert [run["id"] for run in listed] == created[::-1]
    assert [run["id"] for run in await list_objects(ApiClient(address), RUNS_KIND, limit=3)] == created[:1:-1]


async def test_a_run_that_waits_for_a_worker_is_explained(
    address: str, database: Database, database_url: str, run_id: str
) -> None:
    assert "No worker is alive" in await treadle("queue", run_id, "--url", address)
    presence = Presence(dsn(database_url), database.pool, "wrk_2", 48, "host-b", 12)
    assert await presence.acquire()
    try:
        assert "first in its queue" in await treadle("queue", run_id, "--url", address)
        assert "host-b" in await treadle("workers", "--url", address)
    finally:
        await presence.unregister()
    assert "no run with the id" in await treadle("queue", "run_x", "--url", address, code=1)


WAITS = [
    ({"__typename": "TimerWait", "nodeId": "n", "until": "T"}, "Node n waits until T."),
    ({"__typename": "RetryWait", "nodeId": "n", "until": "T"}, "Node n tries again at T."),
    ({"__typename": "InputWait", "nodeId": "n", "waitId": "w", "expiresAt": "T"}, "waitId w. It expires at T."),
    (
        {"__typename": "RunWait", "nodeId": "n", "run": {"id": "r", "status": "RUNNING"}},
        "child run r, which is RUNNING",
    ),
    ({"__typename": "EventWait", "nodeId": "n", "since": "T"}, "waits (EventWait) since T."),
]


@pytest.mark.parametrize(("wait", "text"), WAITS)
def test_each_kind_of_wait_is_explained(wait: dict[str, Any], text: str) -> None:
    [line] = explanation({"status": "WAITING", "waits": [wait]})
    assert text in line


@pytest.mark.parametrize(
    ("run", "text"),
    [
        ({"status": "COMPLETED"}, "It has ended"),
        ({"status": "PENDING", "statusMessage": None}, "executeRun"),
        ({"status": "PAUSED", "statusMessage": "Breakpoint at b."}, "`resumeRun` continues it. Breakpoint at b."),
        ({"status": "QUEUED", "queueReason": None}, "claimed it just now"),
        ({"status": "WAITING", "waits": []}, "has happened"),
        ({"status": "RUNNING", "currentNodes": [{"nodeId": "a", "status": "RETRYING"}]}, "a is RETRYING"),
    ],
)
def test_each_status_is_explained(run: dict[str, Any], text: str) -> None:
    assert text in explanation(run)[0]


async def test_the_log_is_printed_filtered_and_followed_to_the_end(
    address: str,
    database: Database,
    caller: Caller,
    worker: JournalWorker,
    run_id: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with database.connect() as connection:
        held = await worker.claim((await stored_runs.get_many(connection, caller, [run_id]))[run_id])
    await held.record(
        LogRecorded(LogLevel.INFO, "first", "a", {"n": 1}), LogRecorded(LogLevel.ERROR, "second", "a", {})
    )
    assert [line.split(" ", 1)[1] for line in (await treadle("logs", run_id, "--url", address)).splitlines()] == [
        "INFO    a: first n=1",
        "ERROR   a: second",
    ]
    assert "first" not in await treadle("logs", run_id, "--level", "ERROR", "--url", address)
    assert await treadle("logs", run_id, "--node", "b", "--url", address) == ""
    assert json.loads((await treadle("logs", run_id, "--json", "--url", address)).splitlines()[0])["fields"] == {"n": 1}

    capsys.readouterr()
    followed = asyncio.create_task(LogPrinter(ApiClient(address), run_id, None, LogLevel.DEBUG, is_json=False).follow())
    await printed(capsys, "second")
    await held.record(LogRecorded(LogLevel.WARNING, "third", None, {}))
    await printed(capsys, "third")
    await held.finish()
    async with asyncio.timeout(20):
        await followed


async def printed(capsys: pytest.CaptureFixture[str], text: str) -> None:
    async with asyncio.timeout(20):
        while text not in capsys.readouterr().out:  # noqa: ASYNC110 (a printed line has no event)
            await asyncio.sleep(0.01)


async def test_a_server_that_does_not_respond_is_one_line() -> None:
    for command in ("runs", "workers", "queue"):
        output = await treadle(command, "--url", "http://127.0.0.1:1", code=1)
        assert output.startswith("treadle: no server responds at http://127.0.0.1:1/graphql")
        assert output.count("\n") == 1
    assert "not a valid address" in await treadle("runs", "--url", "ftp://x", code=1)


async def test_runs_that_match_are_counted_cancelled_retried_and_deleted(
    address: str, client: httpx.AsyncClient, run_id: str
) -> None:
    at = ("--url", f"http://{address}")
    queued = ("--status", "QUEUED")
    assert "cancel: would change 1 run" in await treadle("runs", "cancel", *queued, "--dry-run", *at)
    refused = await treadle("runs", "delete", *at, code=1)
    assert "name the runs to delete" in refused
    unknown = await treadle("runs", "retry", "--workflow", "wf_unknown", *at, code=1)
    assert "wf_unknown" in unknown
    assert (await treadle("runs", "cancel", *queued, *at)).splitlines()[-1] == "cancel: 1 of 1 run"
    assert (await treadle("runs", "retry", "--status", "CANCELLED", *at)).splitlines()[-1] == "retry: 1 of 1 run"
    deleted = json.loads(await treadle("runs", "delete", "--status", "CANCELLED", "--json", *at))
    assert (deleted["done"], deleted["failed"]) == (1, 0)
    [retry] = json.loads(await treadle("runs", "--json", *at))
    assert (retry["id"] != run_id, retry["status"], retry["source"]) == (True, "QUEUED", "RETRY")
