"""Server-Sent Events with the numbers of a run's events, and the continuation after one of them."""

import re
from typing import Any

import httpx
import pytest

STREAM = {"Accept": "text/event-stream"}
SUBSCRIPTIONS = [
    "runEvents(runId: $id) { seq }",
    "runUpdates(runId: $id, after: 0) { __typename ... on RunEvent { number: seq } }",
    "nodeStates(runId: $id, after: 0) { progress }",
]


async def execute(client: httpx.AsyncClient, query: str, **variables: Any) -> Any:
    response = await client.post("/graphql", json={"query": query, "variables": variables})
    return response.json()["data"]


@pytest.fixture
async def ended_run(client: httpx.AsyncClient) -> str:
    """A run with the events QUEUED and CANCELLED."""
    created = await execute(client, 'mutation { createWorkflow(input: {name: "w"}) { workflow { id } } }')
    workflow_id = created["createWorkflow"]["workflow"]["id"]
    start = "mutation($id: ID!) { runWorkflow(input: {workflowId: $id}) { run { id } errors { detail } } }"
    run_id: str = (await execute(client, start, id=workflow_id))["runWorkflow"]["run"]["id"]
    await execute(client, "mutation($id: ID!) { cancelRun(input: {runId: $id}) { errors { detail } } }", id=run_id)
    return run_id


async def ids(client: httpx.AsyncClient, subscription: str, run_id: str, **headers: str) -> list[int]:
    """The numbers that the stream has in its `id` lines, before it is complete."""
    operation = {"query": f"subscription($id: ID!) {{ {subscription} }}", "variables": {"id": run_id}}
    response = await client.post("/graphql", json=operation, headers={**STREAM, **headers})
    assert response.text.endswith("event: complete\ndata: \n\n"), response.text
    return [int(number) for number in re.findall(r"^id: (\d+)$", response.text, re.MULTILINE)]


@pytest.mark.parametrize("subscription", SUBSCRIPTIONS)
async def test_a_stream_continues_after_the_last_event_of_the_client(
    client: httpx.AsyncClient, ended_run: str, subscription: str
) -> None:
    everything = await ids(client, subscription, ended_run)
    last = max(everything)
    assert last >= 2 and everything == sorted(everything)
    again = await ids(client, subscription, ended_run, **{"Last-Event-ID": str(last - 1)})
    assert set(again) == {last}
    assert await ids(client, subscription, ended_run, **{"Last-Event-ID": str(last)}) == []


@pytest.mark.parametrize("last_event", ["x", "-1", "1.5", "9" * 10])
async def test_a_last_event_that_is_no_number_is_refused(client: httpx.AsyncClient, last_event: str) -> None:
    operation = {"query": 'subscription { runEvents(runId: "run_x") { seq } }'}
    response = await client.post("/graphql", json=operation, headers={**STREAM, "Last-Event-ID": last_event})
    assert response.status_code == 400
    assert "Last-Event-ID" in response.json()["errors"][0]["message"]
