"""Models with real processes: streaming, partial output after a cancel, usage, and an agent."""

import asyncio
import json
from typing import Any

import pytest

from tests.end_to_end.conftest import MODEL_KEY
from tests.end_to_end.support.client_actions import example
from tests.end_to_end.support.system import CANCEL, SystemUnderTest
from tests.peers.http import Peer

USAGE = "query ($id: ID!) { run(id: $id) { nodeStates { nodeId usage { model inputTokens outputTokens costUsd } } } }"
LOGS = "query ($id: ID!) { run(id: $id) { logs: events(first: 1000) { nodes { ... on LogRecorded { message fields } } } } }"
TEXTS = """
subscription ($id: ID!) { runEvents(runId: $id, after: 0) {
  seq ... on NodeOutputDelta { nodeId offset text } ... on NodeStateChanged { nodeState { partialOutput } } } }
"""


@pytest.fixture
def peer(chat_peer: Peer) -> Peer:
    return chat_peer


@pytest.fixture
def system(model_system: SystemUnderTest) -> SystemUnderTest:
    return model_system


def llm_spec(model: str, prompt: str, **config: Any) -> dict[str, Any]:
    nodes = [{"id": "ask", "type": "llm", "config": {"model": model, "prompt": prompt, **config}}]
    return {"nodes": nodes, "edges": []}


async def test_a_run_has_the_output_and_the_usage_of_a_model(system: SystemUnderTest) -> None:
    answer = await system.run(llm_spec("repeats", "Once upon a time"))
    assert answer["run"]["output"] == {"ask": "Once upon a time"}
    data = await system.execute(USAGE, id=answer["run"]["id"])
    usage = {"model": "repeats", "inputTokens": 1000, "outputTokens": 200, "costUsd": 0.004}
    assert data["run"]["nodeStates"] == [{"nodeId": "ask", "usage": usage}]


STATES = "query ($id: ID!) { run(id: $id) { nodeStates { finishReason thinking partialOutput } } }"


async def test_the_thinking_and_the_finish_reason_of_a_model_are_stored(system: SystemUnderTest) -> None:
    thought, said = {"reasoning_content": "Ann is first"}, {"content": "Ann"}
    chunks = [[{"role": "assistant"}, None], [thought, None], [said, None], [{}, "length"]]
    prompt = "{% raw %}RAW:" + json.dumps(chunks) + "{% endraw %}"
    answer = await system.run(llm_spec("plain", prompt))
    assert answer["run"]["output"] == {"ask": "Ann"}
    data = await system.execute(STATES, id=answer["run"]["id"])
    state = {"finishReason": "length", "thinking": "Ann is first", "partialOutput": "Ann"}
    assert data["run"]["nodeStates"] == [state]
    failing = llm_spec("plain", prompt, onTruncated="fail")
    assert (await system.run(failing))["run"]["error"]["code"] == "MODEL_OUTPUT"


async def test_streamed_text_stays_stored_when_the_run_is_cancelled(system: SystemUnderTest, peer: Peer) -> None:
    peer.left.clear()
    answer = await system.run(llm_spec("falls-silent", "go"), mode="ASYNC")
    run_id = answer["run"]["id"]
    async with asyncio.timeout(60):
        async for event in system.subscribe(TEXTS, id=run_id):
            # A reader that joins after the next event of the node finds the text in its state.
            if event["runEvents"].get("text") or event["runEvents"].get("nodeState", {}).get("partialOutput"):
                break
    await system.execute(CANCEL, id=run_id)
    run = await system.wait_for_end(run_id)
    assert run["status"] == "CANCELLED"
    assert run["nodeStates"][0]["partialOutput"] == "Once upon"
    await asyncio.wait_for(peer.left.wait(), 10)


async def test_a_node_is_retried_when_the_endpoint_is_busy(system: SystemUnderTest, peer: Peer) -> None:
    peer.seen.clear()
    spec = llm_spec("busy-once", "go")
    spec["nodes"][0]["retry"] = {"maxAttempts": 2, "backoffS": 0}
    answer = await system.run(spec)
    run = await system.read(answer["run"]["id"])
    assert (run["output"], run["nodeStates"][0]["attempt"]) == ({"ask": "now"}, 2)


async def test_the_agent_example_works_with_an_openai_compatible_model(system: SystemUnderTest) -> None:
    spec = example("order_agent")["spec"]
    agent = next(node for node in spec["nodes"] if node["id"] == "agent")
    agent["config"]["model"] = "calls"
    call = {"name": "json_query", "arguments": {"data": [3, 5], "expression": "[1]"}}
    answer = await system.run(spec, {"question": json.dumps([call])})
    assert answer["run"]["output"] == {"answer": "They said: 5", "calls": ["json_query"]}
    data = await system.execute(LOGS, id=answer["run"]["id"])
    assert [event["message"] for event in data["run"]["logs"]["nodes"] if event] == [
        "the model 'calls' answered",
        "calls json_query",
        "json_query answered",
        "the model 'calls' answered",
    ]


async def test_no_response_of_an_endpoint_leaks_the_key(system: SystemUnderTest) -> None:
    echoed = await system.run(llm_spec("repeats", f"the key is {MODEL_KEY}!"))
    refused = await system.run(llm_spec("locked", "go"))
    assert echoed["run"]["output"] == {"ask": "the key is •••!"}
    assert refused["run"]["error"]["code"] == "MODEL_AUTH"
    for run in (echoed, refused):
        assert MODEL_KEY not in json.dumps(await system.read(run["run"]["id"]))


async def test_the_catalog_lists_usable_models(system: SystemUnderTest) -> None:
    models = (await system.execute("{ models { name available } }"))["models"]
    assert {"name": "treadle/echo", "available": True} in models
    assert {"name": "repeats", "available": True} in models
