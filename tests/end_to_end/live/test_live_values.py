"""What subscribers of a real system receive: progress, streamed text, statuses, ports and edges."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from tests.end_to_end.support.client_actions import mutate
from tests.end_to_end.support.system import CANCEL, SystemUnderTest
from tests.peers.http import Peer

UPDATES = """subscription ($id: ID!, $types: [RunEventType!]) { runUpdates(runId: $id, types: $types) {
    __typename
    ... on RunSnapshot { seq run { status progress } nodeStates { nodeId status progress port }
      edgeStates { edgeId status visits } }
    ... on RunEvent { seq nodeId }
    ... on NodeStateChanged { nodeState { nodeId status progress port edgeStates { edgeId status visits } } }
    ... on EdgeStateChanged { edgeState { edgeId status visits } }
    ... on NodeOutputDelta { nodeId offset text }
    ... on RunProgressed { progress }
    ... on RunStatusChanged { status } } }"""
RUN_EVENTS = """subscription ($id: ID!) { runEvents(runId: $id) {
    __typename seq nodeId
    ... on NodeStateChanged { nodeState { nodeId status } }
    ... on NodeOutputDelta { nodeId offset text } } }"""
NODE_STATES = """subscription ($id: ID!) { nodeStates(runId: $id) {
    seq runStatus progress run { status progress } nodeState { nodeId status progress port } } }"""
RUNS = "subscription { runs { id status progress } }"


def edge(source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"{source}-{target}", "source": source, "target": target, **fields}


def node(id: str, type: str = "transform", **config: Any) -> dict[str, Any]:
    return {"id": id, "type": type, "config": config or {"output": id}}


async def first(updates: AsyncIterator[Any], name: str, condition: Any) -> Any:
    """Return the first message of a subscription for which `condition` holds."""
    async with asyncio.timeout(30), aclosing(updates) as messages:  # type: ignore[type-var]
        async for data in messages:
            if condition(data[name]):
                return data[name]
    raise AssertionError(f"{name} ended before")


def halfway(peer: Peer) -> dict[str, Any]:
    """Create a spec whose map has finished 9 of 20 items, and waits for the tenth for ever.

    `a` has ended, `b` follows, and `never` cannot be reached: the mean is over `a`, `m` and `b`.
    """
    url = f"{peer.url}/{{{{ 'hang' if index == 9 else 'echo' }}}}"
    items = {"items": "{{ range(20) | list }}", "concurrency": 1, "node": {"type": "http", "config": {"url": url}}}
    return {
        "nodes": [node("a"), {"id": "m", "type": "map", "config": items}, node("b"), node("never")],
        "edges": [edge("a", "m"), edge("a", "never", condition="1 > 2"), edge("m", "b")],
    }


async def test_the_progress_of_a_run_counts_the_fraction_of_a_map(system: SystemUnderTest, peer: Peer) -> None:
    expected = pytest.approx((1 + 0.45 + 0) / 3, abs=1e-12)
    listed = asyncio.ensure_future(first(system.subscribe(RUNS), "runs", lambda run: run["progress"] == expected))
    started = await system.run(halfway(peer), mode="ASYNC")
    run_id = started["run"]["id"]

    def has_fraction(update: Any) -> bool:
        return (update["nodeState"] or {}).get("progress") == 0.45

    states = system.subscribe(NODE_STATES, id=run_id)
    update = await first(states, "nodeStates", has_fraction)
    assert (update["nodeState"]["nodeId"], update["nodeState"]["status"]) == ("m", "RUNNING")
    assert update["progress"] == update["run"]["progress"] == expected
    assert {"id": run_id, "status": "RUNNING", "progress": expected} == await listed
    assert (await system.read(run_id))["progress"] == expected
    updates = system.subscribe(UPDATES, id=run_id, types=["PROGRESS"])
    snapshot = await first(updates, "runUpdates", lambda _: True)
    assert snapshot["run"] == {"status": "RUNNING", "progress": expected}
    assert {one["nodeId"]: one["progress"] for one in snapshot["nodeStates"]} == {"a": 1, "m": 0.45, "b": 0, "never": 0}
    await system.execute(CANCEL, id=run_id)
    assert (await system.wait_for_end(run_id))["progress"] == expected


ASKED = {
    "nodes": [
        node("ask", "human", prompt="About what?"),
        node("tell", "llm", model="repeats", prompt="{{ ask.output }}"),
    ],
    "edges": [edge("ask", "tell")],
}
STORY = "Once upon a time a weaver wrote: grüße, 你好, 👋🏽 and the very last word."


async def followed(system: SystemUnderTest, subscription: str, **variables: Any) -> list[Any]:
    """Collect the messages of a run that waits for an answer, from before the answer until its end."""
    run_id = (await system.run(ASKED))["run"]["id"]
    messages, is_following = [], asyncio.Event()

    async def follow() -> None:
        async for data in system.subscribe(subscription, id=run_id, **variables):
            messages.extend(data.values())
            is_following.set()

    following = asyncio.create_task(follow())
    await is_following.wait()
    waits = "query ($id: ID!) { run(id: $id) { status waits { ... on InputWait { waitId } } } }"
    run = (await system.execute(waits, id=run_id))["run"]
    assert run["status"] == "WAITING"
    resumed = await mutate(system, "resumeRun", runId=run_id, waitId=run["waits"][0]["waitId"], answer=STORY)
    assert resumed["errors"] == []
    async with asyncio.timeout(30):
        await following
    return messages


@pytest.mark.parametrize("subscription", [UPDATES, RUN_EVENTS], ids=["runUpdates", "runEvents"])
async def test_all_text_of_a_model_is_sent_before_the_end_of_its_node(
    model_system: SystemUnderTest, subscription: str
) -> None:
    messages = await followed(model_system, subscription)
    text, end = "", None
    for message in messages:
        if message["__typename"] == "NodeOutputDelta":
            assert (message["nodeId"], message["offset"], end) == ("tell", len(text), None)
            text += message["text"]
        state = message.get("nodeState") or {}
        if (state.get("nodeId"), state.get("status")) == ("tell", "COMPLETED"):
            end = message
    assert (text, end is not None) == (STORY, True)


async def test_text_alone_is_whole_too(model_system: SystemUnderTest) -> None:
    snapshot, *deltas = await followed(model_system, UPDATES, types=["OUTPUT_DELTA"])
    assert snapshot["__typename"] == "RunSnapshot"
    assert {delta["__typename"] for delta in deltas} == {"NodeOutputDelta"}
    assert "".join(delta["text"] for delta in deltas) == STORY


async def test_the_run_of_each_message_agrees_with_it_through_a_wait(model_system: SystemUnderTest) -> None:
    updates = await followed(model_system, NODE_STATES)
    for update in updates:
        assert update["run"] == {"status": update["runStatus"], "progress": update["progress"]}
    statuses = list(dict.fromkeys(update["runStatus"] for update in updates))
    assert statuses[0] == "WAITING" and statuses[-2:] == ["RUNNING", "COMPLETED"]


CHOICE = {
    "nodes": [
        node("a", output=3),
        node("check", "conditional", condition="a.output > 5"),
        node("yes"),
        {**node("no", "fail", code="NO_STOCK", message="none"), "onError": "branch"},
        node("saved"),
    ],
    "edges": [
        edge("a", "check"),
        edge("check", "yes", port="true"),
        edge("check", "no", port="false"),
        edge("no", "yes"),
        edge("no", "saved", port="error"),
    ],
}
EDGES = {"a-check": 1, "check-yes": 0, "check-no": 1, "no-yes": 0, "no-saved": 1}
PORTS = {"a": None, "check": "false", "yes": None, "no": "error", "saved": None}


async def test_ports_and_edges_are_sent_in_events_and_in_snapshots(system: SystemUnderTest) -> None:
    created = await mutate(system, "createWorkflow", "workflow { id }", name="Choice", spec=CHOICE)
    run = await mutate(system, "createRun", workflowId=created["workflow"]["id"])
    run_id, messages, is_following = run["run"]["id"], [], asyncio.Event()

    async def follow() -> None:
        async for data in system.subscribe(UPDATES, id=run_id):
            messages.append(data["runUpdates"])
            is_following.set()

    following = asyncio.create_task(follow())
    await is_following.wait()
    await mutate(system, "executeRun", runId=run_id)
    async with asyncio.timeout(30):
        await following
    before, *changes = messages
    [after] = [data["runUpdates"] async for data in system.subscribe(UPDATES, id=run_id)]
    assert before["edgeStates"] == [{"edgeId": id, "status": "PENDING", "visits": 0} for id in EDGES]
    ended = [
        {"edgeId": id, "status": "TAKEN" if visits else "SKIPPED", "visits": visits} for id, visits in EDGES.items()
    ]
    assert after["edgeStates"] == ended
    states = [one["nodeState"] for one in changes if one["__typename"] == "NodeStateChanged"]
    sent = {one["edgeState"]["edgeId"]: one["edgeState"] for one in changes if one["__typename"] == "EdgeStateChanged"}
    assert [sent[id] for id in EDGES] == ended
    of_nodes = {edge["edgeId"]: edge for state in states for edge in state["edgeStates"]}
    assert [of_nodes[id] for id in EDGES] == ended
    assert {state["nodeId"]: state["port"] for state in states} == PORTS
    assert {state["nodeId"]: state["port"] for state in after["nodeStates"]} == PORTS
