"""Every example of the folder `examples` runs, and every node type has an example."""

from typing import Any

import asyncpg
import pytest

from engine.nodes.registry import BUILT_IN
from tests.end_to_end.support.client_actions import example
from tests.end_to_end.support.system import ROOT, SystemUnderTest

EXPECTED: dict[str, Any] = {
    "support_triage": {
        "category": "billing",
        "queue": "billing",
        "reply": "We are looking into your payment: I was charged twice",
    },
    "order_pipeline": {"order": "A-1007", "boxes": [2, 2, 1], "risk": "low"},
    "sales_report": {"total": 200, "sheet": {"line": "total: 200", "digest": "fd8f75c6"}},
    "order_agent": {"answer": '["A-1"]', "calls": ["json_query"]},
    "invoice_check": {
        "decisions": [
            {"id": "I-1", "total": 275, "decision": "pay"},
            {"id": "I-2", "total": 3960, "decision": "review"},
            {"id": "I-4", "total": 0, "decision": "pay"},
        ],
        "unreadable": [2],
    },
    "stock_order": {"sku": "lamp", "quantity": 2, "left": 3},
    "chat": {"answer": "How do I reset my password?"},
    "weather_check": {"go": "go out in Oslo"},
}

OWN_TESTS = {
    "flaky_import",
    "large_orders",
    "ticket_desk",
    "expense_approval",  # tests/end_to_end/test_control.py
    "payment_callback",  # tests/end_to_end/triggers/test_callbacks.py
    "lead_enrichment",  # tests/end_to_end/test_http.py
}
"""Examples that need more than a run and its output, and therefore have tests of their own."""
NEEDS = {
    "large_orders": "[sql.shop]",
    "lead_enrichment": "examples/server.py",
    "ticket_desk": "examples/support_triage.json",
    "weather_check": "TREADLE_CATALOG_FILE=examples/treadle.toml",
}
"""Examples that need more than a running Treadle, and what they say about it."""
CREATE = 'mutation ($spec: JSON) { createWorkflow(input: {name: "Triage", spec: $spec}) { workflow { id } errors { detail } } }'


@pytest.mark.parametrize("name", EXPECTED)
async def test_an_example_returns_its_expected_output(system: SystemUnderTest, name: str) -> None:
    content = example(name)
    answer = await system.run(content["spec"], content["exampleInputs"])
    assert answer["errors"] == []
    assert answer["run"]["error"] is None
    assert answer["run"]["status"] == "COMPLETED"
    assert answer["run"]["output"] == EXPECTED[name]


async def test_a_failing_node_is_retried_and_then_leaves_by_its_error_port(system: SystemUnderTest) -> None:
    content = example("flaky_import")
    answer = await system.run(content["spec"], content["exampleInputs"])
    run = await system.read(answer["run"]["id"])
    states = {state["nodeId"]: state for state in run["nodeStates"]}
    assert run["status"] == "COMPLETED"
    assert (states["sum"]["status"], states["sum"]["attempt"]) == ("FAILED", 3)
    assert states["done"]["status"] == "SKIPPED"
    assert "ValueError" in run["output"]["problem"]
    statuses = [event["nodeState"]["status"] for event in run["events"]["nodes"] if "nodeState" in event]
    assert statuses.count("RETRYING") == 2


async def test_an_order_beyond_the_stock_fails_with_its_own_code(system: SystemUnderTest) -> None:
    content = example("stock_order")
    answer = await system.run(content["spec"], {**content["exampleInputs"], "sku": "chair"})
    error = answer["run"]["error"]
    assert (answer["run"]["status"], error["code"], error["nodeId"]) == ("FAILED", "OUT_OF_STOCK", "refuse")
    assert error["message"] == "There are only 0 left of chair."


def test_an_example_says_what_it_needs() -> None:
    needs = {path.stem: example(path.stem).get("needs", []) for path in (ROOT / "examples").glob("*.json")}
    assert {name for name, texts in needs.items() if texts} == NEEDS.keys()
    assert all(text in " ".join(needs[name]) for name, text in NEEDS.items())


async def test_the_triage_routes_by_the_text_of_the_ticket(system: SystemUnderTest) -> None:
    spec = example("support_triage")["spec"]
    answer = await system.run(spec, {"subject": "Login error", "body": "The app shows a bug and is slow"})
    states = {state["nodeId"]: state["status"] for state in answer["run"]["nodeStates"]}
    assert answer["run"]["output"]["queue"] == "engineering"
    assert (states["technical"], states["billing"], states["other"]) == ("COMPLETED", "SKIPPED", "SKIPPED")


async def test_a_workflow_runs_another_workflow(system: SystemUnderTest) -> None:
    triage = (await system.execute(CREATE, spec=example("support_triage")["spec"]))["createWorkflow"]["workflow"]["id"]
    content = example("ticket_desk")
    answer = await system.run(content["spec"], {**content["exampleInputs"], "triage": triage})
    assert answer["run"]["output"] == {
        "slip": {"to": "billing", "say": "We are looking into your payment: Invoice 4711"}
    }


async def test_an_example_reads_a_database(system: SystemUnderTest) -> None:
    connection = await asyncpg.connect(system.database_url)
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS orders AS SELECT 'A-' || n AS id, n * 60 AS total FROM generate_series(1, 3) n"
    )
    await connection.close()
    content = example("large_orders")
    answer = await system.run(content["spec"], content["exampleInputs"])
    assert answer["run"]["output"] == {"sum": {"orders": ["A-2", "A-3"], "total": 300}}


def test_every_example_is_run_and_every_type_has_one() -> None:
    names = {path.stem for path in (ROOT / "examples").glob("*.json")}
    assert names == {*EXPECTED, *OWN_TESTS}
    used = {node["type"] for name in names for node in example(name)["spec"]["nodes"]}
    assert used >= {kind.name for kind in BUILT_IN}
