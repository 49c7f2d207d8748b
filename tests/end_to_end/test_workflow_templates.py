"""Each workflow template creates a workflow that runs on the template's example inputs."""

import json
from typing import Any

import pytest

from tests.end_to_end.support.system import SystemUnderTest
from tests.peers.http import http_peer

CREATE = """mutation ($input: CreateWorkflowInput!) {
  createWorkflow(input: $input) { workflow { id } errors { code detail } } }"""
RUN = """mutation ($input: RunWorkflowInput!) { runWorkflow(input: $input) {
  run { id status output error { code message nodeId } waits { nodeId ... on InputWait { waitId prompt } } }
  errors { code detail } } }"""
ANSWER = "mutation ($input: ResumeRunInput!) { resumeRun(input: $input) { errors { code detail } } }"
OUTPUTS: dict[str, Any] = {
    "support_triage": {
        "category": "billing",
        "urgent": True,
        "queue": "billing",
        "reply": "Write a reply to this ticket.\n\nSubject: I was charged twice\n\nMy card shows two payments of 49 EUR "
        "for the same invoice. Please answer, it is urgent.",
    },
    "map_reduce_summary": {
        "pieces": 3,
        "summary": "Focus: what the building was used for\n\n"
        "Piece 1 of 3:\n\nThe mill was built in 1784 beside the weir. It ground corn for three villages, and was paid in "
        "flour.\n\nPiece 2 of 3:\n\nIn 1851 the new owner took the stones out and put forty looms in. They were driven by the "
        "same wheel, and later by steam.\n\nPiece 3 of 3:\n\nThe last shift ended in 1966. Today the hall holds a museum, in "
        "which six of the looms still run.",
    },
    "checked_intake": {"email": "ada@example.com", "amount": 120},
    "agent_with_tools": {"answer": "[1]", "steps": 2, "tools": ["json_query"]},
}


async def run_template(system: SystemUnderTest, name: str, inputs: Any = None) -> Any:
    """Create a workflow from a template, run it until it ends or waits, and return the run."""
    templates = (await system.execute("{ templates { name exampleInputs } }"))["templates"]
    example = next(template for template in templates if template["name"] == name)["exampleInputs"]
    payload = (await system.execute(CREATE, input={"name": name, "template": name}))["createWorkflow"]
    assert payload["errors"] == []
    arguments = {
        "workflowId": payload["workflow"]["id"],
        "inputs": example if inputs is None else inputs,
        "mode": "SYNC",
    }
    started = (await system.execute(RUN, input=arguments))["runWorkflow"]
    assert started["errors"] == []
    return started["run"]


async def answer_question(system: SystemUnderTest, run_id: str, answer: Any) -> None:
    waiting = "query ($id: ID!) { run(id: $id) { waits { ... on InputWait { waitId } } } }"
    [wait] = (await system.execute(waiting, id=run_id))["run"]["waits"]
    arguments = {"runId": run_id, "waitId": wait["waitId"], "answer": answer}
    assert (await system.execute(ANSWER, input=arguments))["resumeRun"]["errors"] == []


@pytest.mark.parametrize("name", OUTPUTS)
async def test_a_template_returns_its_expected_output(system: SystemUnderTest, name: str) -> None:
    run = await run_template(system, name)
    assert (run["error"], run["status"]) == (None, "COMPLETED")
    assert run["output"] == OUTPUTS[name]


async def test_a_question_is_answered_only_from_the_documents(system: SystemUnderTest) -> None:
    output = (await run_template(system, "answer_from_documents"))["output"]
    assert output["sources"] == ["Returns"]
    assert "[1] Returns\nYou have 30 days" in output["answer"] and "Shipping" not in output["answer"]
    documents = [{"title": "Shipping", "text": "Parcels are sent daily."}]
    nothing = await run_template(system, "answer_from_documents", {"question": "Who was Ada?", "documents": documents})
    assert nothing["output"] == {"answer": "None of the documents says anything about this.", "sources": []}


async def test_a_document_is_approved_by_a_person_or_by_a_rule(system: SystemUnderTest) -> None:
    run = await run_template(system, "document_approval")
    assert run["status"] == "WAITING"
    assert run["waits"][0]["prompt"]["fields"]["currency"] == "EUR"
    await answer_question(system, run["id"], {"approved": True, "corrections": {"number": "2024-118", "total": 1250}})
    output = (await system.wait_for_end(run["id"]))["output"]
    assert (output["approved"], output["by"]) == (True, "person")
    assert (output["fields"]["number"], output["fields"]["total"]) == ("2024-118", 1250)
    small = await run_template(system, "document_approval", {"document": "Total 12.5 EUR"})
    assert (small["status"], small["output"]["by"]) == ("COMPLETED", "rule")


async def test_an_event_is_enriched_and_forwarded(system: SystemUnderTest) -> None:
    async with http_peer() as peer:
        event = {"id": "evt_1", "email": "ada@Example.com"}
        inputs = {"event": event, "lookup": f"{peer.url}/echo", "target": f"{peer.url}/echo"}
        output = (await run_template(system, "webhook_enrichment", inputs))["output"]
        assert (output["status"], output["sent"]["known"], output["sent"]["domain"]) == (200, True, "example.com")
        assert output["sent"]["person"]["query"] == {"email": ["ada@Example.com"]}
        assert [request.method for request in peer.seen] == ["GET", "POST"]
        without = {**inputs, "lookup": f"{peer.url}/not-json"}
        output = (await run_template(system, "webhook_enrichment", without))["output"]
        assert (output["status"], output["sent"]["known"], output["sent"]["person"]) == (200, False, None)


async def test_a_template_runs_as_shipped_with_the_service_that_it_needs(
    system: SystemUnderTest, example_service: str
) -> None:
    templates = (await system.execute("{ templates { name exampleInputs needs } }"))["templates"]
    needing = {template["name"]: template for template in templates if template["needs"]}
    assert needing.keys() == {"webhook_enrichment"}
    example = needing["webhook_enrichment"]["exampleInputs"]
    inputs = json.loads(json.dumps(example).replace("http://127.0.0.1:9000", example_service))
    run = await run_template(system, "webhook_enrichment", inputs)
    assert (run["error"], run["status"]) == (None, "COMPLETED")
    assert (run["output"]["status"], run["output"]["sent"]["person"]["name"]) == (201, "Ada")


async def test_a_record_that_is_not_usable_fails_the_run_with_what_is_wrong(system: SystemUnderTest) -> None:
    run = await run_template(system, "checked_intake", {"record": {"email": "ada", "amount": -1}})
    assert (run["status"], run["error"]["code"], run["error"]["nodeId"]) == ("FAILED", "RECORD_INVALID", "refuse")
    assert "email: give an address; amount: give a positive number" in run["error"]["message"]


async def test_a_draft_is_revised_until_it_is_approved(system: SystemUnderTest) -> None:
    run = await run_template(system, "draft_and_revise")
    assert run["waits"][0]["prompt"]["draft"] == "Announce that the shop is closed on Monday."
    await answer_question(system, run["id"], {"approved": False, "change": "say until when"})
    await system.wait_for_node(run["id"], "review", "WAITING")
    again = await system.read(run["id"])
    [draft] = [state for state in again["nodeStates"] if state["nodeId"] == "draft"]
    assert "Change this: say until when" in draft["output"] and draft["visits"] == 2
    await answer_question(system, run["id"], {"approved": True})
    output = (await system.wait_for_end(run["id"]))["output"]
    assert output == {"text": draft["output"], "approved": True}
