"""Every case that once gave a wrong result, through the API of a real system, with its right value.

Each case is a file with its name: a spec, its inputs, and what is expected. Most of the files are
also run in memory by the tests of their packages.
"""

import asyncio
import json
from typing import Any

import pytest

from tests.end_to_end.support import case_peers as case_peers  # registers its paths
from tests.end_to_end.support.client_actions import mutate
from tests.end_to_end.support.system import SystemUnderTest
from tests.paths import ROOT
from tests.peers.http import Peer

NAMES = [
    "chained_default_missing_parent_fails",
    "code_common_python_missing",
    "code_round_differs_from_python",
    "crash_in_backoff_forgets_attempts",
    "error_branch_has_no_details",
    "evaluate_expression_word_before_braces",
    "first_of_two_approvals_never_ends",
    "fromjson_bigint_silently_rounded",
    "json_with_bom_refused",
    "loop_skipped_branch_keeps_old_output",
    "missing_key_named_items_is_true",
    "nested_loop_inner_exit_is_outer_back_edge",
    "pagination_message_names_pages_items",
    "refusal_without_schema_is_empty_text",
    "structured_thinktags",
    "text_compared_with_number_is_true",
    "text_cut_at_length_is_silent",
    "tool_call_without_id_agent",
    "truncated_tool_arguments_are_executed",
]
FOLDERS = [path for path in (ROOT / "tests").rglob("cases") if path.is_dir()]
FILES = {path.stem: path for folder in FOLDERS for path in folder.rglob("*.json")}
RUNS = [name for name in NAMES if not name.startswith(("code_common", "crash_in", "evaluate_", "first_of"))]
VALIDATE = "query ($spec: JSON!) { validateSpec(spec: $spec) { errors { message } warnings { code field } } }"
EVALUATE = """
query ($expression: String!, $kind: ExpressionKind!, $context: JSON!) {
  evaluateExpression(expression: $expression, kind: $kind, context: $context) { value errors { message } }
}
"""
LOGS = """
query ($id: ID!) {
  run(id: $id) {
    nodeStates { finishReason }
    events(first: 1000) { nodes { ... on LogRecorded { message } ... on NodeStateChanged { nodeState { status } } } }
  }
}
"""
WAITS = "query ($id: ID!) { run(id: $id) { waits { nodeId ... on InputWait { waitId } } } }"


def case_of(name: str, peer: Peer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FILES[name].read_text().replace("PEER", peer.url))
    return content


def test_every_case_has_a_file() -> None:
    assert FILES.keys() == set(NAMES)


@pytest.mark.parametrize("name", RUNS)
async def test_a_case_has_its_right_value(model_system: SystemUnderTest, chat_peer: Peer, name: str) -> None:
    case = case_of(name, chat_peer)
    expected = case["expected"] if "c" not in case["expected"] else {"output": case["expected"]}
    payload = await model_system.run(case["spec"], case["inputs"])
    assert payload["errors"] == []
    run, error = payload["run"], expected.get("error")
    found = (await model_system.execute(LOGS, id=run["id"]))["run"]
    messages = [event["message"] for event in found["events"]["nodes"] if "message" in event]
    if error is None:
        assert (run["status"], run["error"]) == ("COMPLETED", None)
        output = run["output"]
        if isinstance(expected["output"], dict):
            output = {key: value for key, value in output.items() if key in expected["output"]}
        assert output == expected["output"]
    else:
        assert (run["status"], run["output"]) == ("FAILED", None)
        error = {"code": error, "message": "", "nodeId": "n"} if isinstance(error, str) else error
        assert (run["error"]["code"], run["error"]["nodeId"]) == (error["code"], error["nodeId"])
        assert error["message"] in run["error"]["message"]
    if "finishReason" in expected:
        assert [state["finishReason"] for state in found["nodeStates"]] == [expected["finishReason"]]
    assert "log" not in expected or any(expected["log"] in message for message in messages)
    assert expected.get("notLogged") not in messages


async def test_code_common_python_missing(model_system: SystemUnderTest, chat_peer: Peer) -> None:
    for code in case_of("code_common_python_missing", chat_peer)["spec"]["code"].values():
        spec = {"nodes": [{"id": "c", "type": "code", "config": {"code": code}}]}
        report = (await model_system.execute(VALIDATE, spec=spec))["validateSpec"]
        assert report == {"errors": [], "warnings": [{"code": "UNSUPPORTED", "field": "nodes[0].config.code"}]}, code
        assert (await model_system.run(spec))["run"]["error"]["code"] == "CODE"


async def test_evaluate_expression_word_before_braces(model_system: SystemUnderTest, chat_peer: Peer) -> None:
    case = case_of("evaluate_expression_word_before_braces", chat_peer)
    data = await model_system.execute(EVALUATE, **case["spec"], context=case["inputs"])
    assert data["evaluateExpression"] == {**case["expected"], "errors": []}


async def test_first_of_two_approvals_never_ends(model_system: SystemUnderTest, chat_peer: Peer) -> None:
    case = case_of("first_of_two_approvals_never_ends", chat_peer)
    run_id = (await model_system.run(case["spec"], mode="ASYNC"))["run"]["id"]
    for node_id, answer in case["answers"].items():
        await model_system.wait_for_node(run_id, node_id, "WAITING")
        waits = (await model_system.execute(WAITS, id=run_id))["run"]["waits"]
        wait_id = next(wait["waitId"] for wait in waits if wait["nodeId"] == node_id)
        assert (await mutate(model_system, "resumeRun", runId=run_id, waitId=wait_id, answer=answer))["errors"] == []
    run = await model_system.wait_for_end(run_id)
    assert {"status": run["status"], "output": run["output"]} == case["expected"]
    assert {state["nodeId"]: state["status"] for state in run["nodeStates"]}["b"] == "CANCELLED"


async def test_crash_in_backoff_forgets_attempts(model_system: SystemUnderTest, chat_peer: Peer) -> None:
    case, before = case_of("crash_in_backoff_forgets_attempts", chat_peer), chat_peer.count("/flaky")
    case["spec"]["nodes"][0]["retry"]["backoffS"] = 2
    run_id = (await model_system.run(case["spec"], mode="ASYNC"))["run"]["id"]
    await model_system.wait_for_node(run_id, "f", "RETRYING")
    worker = await model_system.worker_of(run_id)
    model_system.start("worker")
    worker.kill()
    await asyncio.to_thread(worker.wait)
    run = await model_system.wait_for_end(run_id)
    assert (run["status"], run["error"]["code"], run["error"]["nodeId"]) == ("FAILED", "HTTP_STATUS", "f")
    assert chat_peer.count("/flaky") - before == case["expected"]["requests"]
    [state] = run["nodeStates"]
    assert state["attempt"] == 2
    events = (await model_system.execute(LOGS, id=run_id))["run"]["events"]["nodes"]
    statuses = [event["nodeState"]["status"] for event in events if "nodeState" in event]
    assert statuses.count("RETRYING") == 1
