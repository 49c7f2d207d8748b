"""The gallery, as a user starts from it: a workflow is made of each template and run on its own example inputs."""

from typing import Any

import pytest

from tests.end_to_end.system import System
from tests.peers.http import http_peer

MAKE = """mutation ($input: CreateWorkflowInput!) {
  createWorkflow(input: $input) { workflow { id } errors { code detail } } }"""
RUN = """mutation ($input: RunWorkflowInput!) { runWorkflow(input: $input) {
  run { id status output error { code message nodeId } waits { nodeId ... on InputWait { waitId prompt } } }
  errors { code detail } } }"""
ANSWER = "mutation ($input: ResumeRunInput!) { resumeRun(input: $input) { errors { code detail } } }"
ECHOED: dict[str, Any] = {
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
    "agent_with_tools": {"answer": "[1]", "steps": 2, "tools": ["json_query"]},
}


async def started(system: System, name: str, inputs: Any = None) -> Any:
    """The run, at rest."""
    listed = (await system.ask("{ templates { name exampleInputs } }"))["templates"]
    example = next(template for template in listed if template["name"] == name)["exampleInputs"]
    made = (await system.ask(MAKE, input={"name": name, "template": name}))["createWorkflow"]
    assert made["errors"] == []
    given = {"workflowId": made["workflow"]["id"], "inputs": example if inputs is None else inputs, "mode": "SYNC"}
    answer = (await system.ask(RUN, input=given))["runWorkflow"]
    assert answer["errors"] == []
    return answer["run"]


async def answered(system: System, run_id: str, answer: Any) -> None:
    waiting = "query ($id: ID!) { run(id: $id) { waits { ... on InputWait { waitId } } } }"
    [wait] = (await system.ask(waiting, id=run_id))["run"]["waits"]
    given = {"runId": run_id, "waitId": wait["waitId"], "answer": answer}
    assert (await system.ask(ANSWER, input=given))["resumeRun"]["errors"] == []


@pytest.mark.parametrize("name", ECHOED)
async def test_a_template_runs_on_its_example(system: System, name: str) -> None:
    run = await started(system, name)
    assert (run["error"], run["status"]) == (None, "COMPLETED")
    assert run["output"] == ECHOED[name]


async def test_a_question_is_answered_from_the_documents_or_not_at_all(system: System) -> None:
    found = (await started(system, "answer_from_documents"))["output"]
    assert found["sources"] == ["Returns"]
    assert "[1] Returns\nYou have 30 days" in found["answer"] and "Shipping" not in found["answer"]
    documents = [{"title": "Shipping", "text": "Parcels are sent daily."}]
    nothing = await started(system, "answer_from_documents", {"question": "Who was Ada?", "documents": documents})
    assert nothing["output"] == {"answer": "None of the documents says anything about this.", "sources": []}


async def test_a_document_is_approved_by_a_person_or_by_the_rule(system: System) -> None:
    run = await started(system, "document_approval")
    assert run["status"] == "WAITING"
    assert run["waits"][0]["prompt"]["fields"]["currency"] == "EUR"
    await answered(system, run["id"], {"approved": True, "corrections": {"number": "2024-118", "total": 1250}})
    output = (await system.ended(run["id"]))["output"]
    assert (output["approved"], output["by"]) == (True, "person")
    assert (output["fields"]["number"], output["fields"]["total"]) == ("2024-118", 1250)
    small = await started(system, "document_approval", {"document": "Total 12.5 EUR"})
    assert (small["status"], small["output"]["by"]) == ("COMPLETED", "rule")


async def test_an_event_is_enriched_and_sent_on(system: System) -> None:
    async with http_peer() as peer:
        event = {"id": "evt_1", "email": "ada@Example.com"}
        given = {"event": event, "lookup": f"{peer.url}/echo", "target": f"{peer.url}/echo"}
        output = (await started(system, "webhook_enrichment", given))["output"]
        assert (output["status"], output["sent"]["known"], output["sent"]["domain"]) == (200, True, "example.com")
        assert output["sent"]["person"]["query"] == {"email": ["ada@Example.com"]}
        assert [request.method for request in peer.seen] == ["GET", "POST"]
        without = {**given, "lookup": f"{peer.url}/not-json"}
        output = (await started(system, "webhook_enrichment", without))["output"]
        assert (output["status"], output["sent"]["known"], output["sent"]["person"]) == (200, False, None)


async def test_a_draft_is_made_again_until_it_is_approved(system: System) -> None:
    run = await started(system, "draft_and_revise")
    assert run["waits"][0]["prompt"]["draft"] == "Announce that the shop is closed on Monday."
    await answered(system, run["id"], {"approved": False, "change": "say until when"})
    await system.until(run["id"], "review", "WAITING")
    again = await system.read(run["id"])
    [draft] = [state for state in again["nodeStates"] if state["nodeId"] == "draft"]
    assert "Change this: say until when" in draft["output"] and draft["visits"] == 2
    await answered(system, run["id"], {"approved": True})
    output = (await system.ended(run["id"]))["output"]
    assert output == {"text": draft["output"], "approved": True}
