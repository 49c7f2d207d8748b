"""Run control as a client has it: pause, resume, step, breakpoints, questions, rewinds; with real processes."""

from typing import Any

from tests.end_to_end.client_actions import PAYLOAD, do, example, until
from tests.end_to_end.system import System

LOOP: dict[str, Any] = {
    "nodes": [
        {
            "id": "count",
            "type": "code",
            "config": {
                "code": "def process(n):\n    return n + 1\n",
                "input_mapping": {"n": "{{ count.output or 0 }}"},
            },
        },
        {"id": "end", "type": "end", "config": {"output": "{{ count.output }}"}},
    ],
    "edges": [
        {"source": "__start__", "target": "count"},
        {"source": "count", "target": "count", "condition": "count.output < 4"},
        {"source": "count", "target": "end", "condition": "count.output >= 4"},
    ],
}


async def test_an_expense_waits_for_its_approval_and_goes_on_with_the_answer(system: System) -> None:
    found = example("expense_approval")
    run_id = (await system.run(found["spec"], found["exampleInputs"], mode="ASYNC"))["run"]["id"]
    await until(system, run_id, "WAITING")
    ask = """query ($id: ID!) { run(id: $id) { availableActions waitingFor { nodeId ... on InputWait
        { waitId prompt schema expiresAt } } waits { __typename } } }"""
    run = (await system.ask(ask, id=run_id))["run"]
    assert run["waitingFor"]["prompt"] == "Ada asks for 840: A train to Lyon"
    assert "ANSWER" in run["availableActions"]
    wait_id = run["waitingFor"]["waitId"]
    wrong = await do(system, "resumeRun", runId=run_id, waitId=wait_id, answer={"approved": "maybe"})
    assert wrong["errors"][0]["errors"][0]["field"] == "input.answer.approved"
    assert (await do(system, "resumeRun", runId=run_id, waitId=wait_id, answer={"approved": True}))["errors"] == []
    run = await system.ended(run_id)
    assert (run["status"], run["output"]["pay"]) == ("COMPLETED", {"paid": True, "amount": 840, "to": "Ada"})


async def test_a_small_expense_asks_nobody(system: System) -> None:
    answer = await system.run(example("expense_approval")["spec"], {"who": "Ada", "amount": 12})
    assert answer["run"]["output"]["pay"] == {"paid": True, "amount": 12, "to": "Ada"}


async def test_a_stepwise_run_is_walked_through_to_its_end(system: System) -> None:
    run_id = (await system.run(LOOP, mode="SYNC", options={"stepwise": True}))["run"]["id"]
    visits = []
    for _ in range(12):
        run = await system.read(run_id)
        visits.append({state["nodeId"]: state["visits"] for state in run["nodeStates"]}["count"])
        if run["status"] != "PAUSED":
            break
        stepped = await do(
            system, "stepRun", PAYLOAD + " checkpoint { nextNodes step }", runId=run_id, timeoutMs=10_000
        )
        assert stepped["errors"] == []
    assert visits == [1, 2, 3, 4, 4]
    assert (run["status"], run["output"]) == ("COMPLETED", 4)


async def test_a_breakpoint_pauses_a_rewind_goes_back_and_the_run_comes_to_the_same_end(system: System) -> None:
    run_id = (await system.run(LOOP, mode="SYNC", options={"breakpoints": ["end"]}))["run"]["id"]
    run = await system.read(run_id)
    assert (run["status"], {one["nodeId"]: one["status"] for one in run["nodeStates"]}) == (
        "PAUSED",
        {"count": "COMPLETED", "end": "IDLE"},
    )
    asked = """query ($id: ID!) { run(id: $id) { checkpoints(first: 100) { nodes { id step state nextNodes
        evaluate(expression: "{{ count.output * 10 }}") { value } } } } }"""
    checkpoints = (await system.ask(asked, id=run_id))["run"]["checkpoints"]["nodes"]
    back = next(one for one in checkpoints if one["state"] == {"count": 2})
    assert back["evaluate"]["value"] == 20
    assert (await do(system, "setBreakpoints", runId=run_id, nodeIds=[]))["errors"] == []
    assert (await do(system, "resumeRun", runId=run_id, checkpointId=back["id"]))["errors"] == []
    run = await system.ended(run_id)
    assert (run["status"], run["output"]) == ("COMPLETED", 4)
    counted = [
        event["nodeState"]["status"]
        for event in run["events"]["nodes"]
        if "nodeState" in event and event["nodeState"]["nodeId"] == "count"
    ]
    assert counted.count("COMPLETED") == 4 + 2


async def test_a_pause_lets_the_running_node_finish_and_a_resume_goes_on(system: System) -> None:
    busy = "def process():\n    n = 0\n    for i in range(3000000):\n        n += 1\n    return n\n"
    spec = {
        "nodes": [
            {"id": "busy", "type": "code", "config": {"code": busy, "timeoutS": 30}},
            {"id": "end", "type": "end", "config": {"output": "{{ busy.output }}"}},
        ],
        "edges": [{"source": "busy", "target": "end"}],
    }
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    await system.until(run_id, "busy", "RUNNING")
    paused = await do(system, "pauseRun", PAYLOAD + " checkpoint { nextNodes }", runId=run_id, timeoutMs=20_000)
    assert (paused["run"]["status"], paused["errors"]) == ("PAUSED", [])
    run = await system.read(run_id)
    assert {one["nodeId"]: one["status"] for one in run["nodeStates"]} == {"busy": "COMPLETED", "end": "IDLE"}
    await do(system, "resumeRun", runId=run_id)
    assert (await system.ended(run_id))["output"] == 3_000_000
