"""Run control with real processes: pause, resume, step, breakpoints, questions and rewinds."""

from typing import Any

from tests.end_to_end.support.client_actions import PAYLOAD, example, mutate, wait_for_status
from tests.end_to_end.support.system import SystemUnderTest

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


async def test_an_expense_waits_for_its_approval_and_continues_with_the_answer(system: SystemUnderTest) -> None:
    expense = example("expense_approval")
    run_id = (await system.run(expense["spec"], expense["exampleInputs"], mode="ASYNC"))["run"]["id"]
    await wait_for_status(system, run_id, "WAITING")
    open_wait = """query ($id: ID!) { run(id: $id) { availableActions waitingFor { nodeId ... on InputWait
        { waitId prompt schema expiresAt } } waits { __typename } } }"""
    run = (await system.execute(open_wait, id=run_id))["run"]
    assert run["waitingFor"]["prompt"] == "Ada asks for 840: A train to Lyon"
    assert "ANSWER" in run["availableActions"]
    wait_id = run["waitingFor"]["waitId"]
    refused = await mutate(system, "resumeRun", runId=run_id, waitId=wait_id, answer={"approved": "maybe"})
    assert refused["errors"][0]["errors"][0]["field"] == "input.answer.approved"
    assert (await mutate(system, "resumeRun", runId=run_id, waitId=wait_id, answer={"approved": True}))["errors"] == []
    run = await system.wait_for_end(run_id)
    assert (run["status"], run["output"]["pay"]) == ("COMPLETED", {"paid": True, "amount": 840, "to": "Ada"})


async def test_a_small_expense_needs_no_approval(system: SystemUnderTest) -> None:
    answer = await system.run(example("expense_approval")["spec"], {"who": "Ada", "amount": 12})
    assert answer["run"]["output"]["pay"] == {"paid": True, "amount": 12, "to": "Ada"}


async def test_a_synchronous_call_returns_after_a_timer_without_a_worker(system: SystemUnderTest) -> None:
    spec = {"nodes": [{"id": "wait", "type": "delay", "config": {"seconds": 6}}], "edges": []}
    run = (await system.run(spec, mode="SYNC"))["run"]
    query = "query ($id: ID!) { run(id: $id) { events { nodes { ... on RunStatusChanged { status } } } } }"
    events = (await system.execute(query, id=run["id"]))["run"]["events"]["nodes"]
    statuses = [event.get("status") for event in events]
    assert (run["status"], "WAITING" in statuses) == ("COMPLETED", True)


async def test_a_stepwise_run_can_be_stepped_to_its_end(system: SystemUnderTest) -> None:
    run_id = (await system.run(LOOP, mode="SYNC", options={"stepwise": True}))["run"]["id"]
    visits, counts = [], []
    for _ in range(12):
        run = await system.read(run_id)
        visits.append({state["nodeId"]: state["visits"] for state in run["nodeStates"]}["count"])
        if run["status"] != "PAUSED":
            break
        stepped = await mutate(
            system, "stepRun", PAYLOAD + " checkpoint { nextNodes step state }", runId=run_id, timeoutMs=10_000
        )
        assert stepped["errors"] == []
        if stepped["checkpoint"] is not None:  # the last step ends the run
            counts.append(stepped["checkpoint"]["state"]["count"])
    assert visits == [1, 2, 3, 4, 4]
    assert counts == [2, 3, 4]
    assert (run["status"], run["output"]) == ("COMPLETED", 4)


async def test_a_run_has_the_same_result_after_a_breakpoint_and_a_rewind(
    system: SystemUnderTest,
) -> None:
    run_id = (await system.run(LOOP, mode="SYNC", options={"breakpoints": ["end"]}))["run"]["id"]
    run = await system.read(run_id)
    assert (run["status"], {one["nodeId"]: one["status"] for one in run["nodeStates"]}) == (
        "PAUSED",
        {"count": "COMPLETED", "end": "IDLE"},
    )
    query = """query ($id: ID!) { run(id: $id) { checkpoints(first: 100) { nodes { id step state nextNodes
        evaluate(expression: "{{ count.output * 10 }}") { value } } } } }"""
    checkpoints = (await system.execute(query, id=run_id))["run"]["checkpoints"]["nodes"]
    back = next(one for one in checkpoints if one["state"] == {"count": 2})
    assert back["evaluate"]["value"] == 20
    assert (await mutate(system, "setBreakpoints", runId=run_id, nodeIds=[]))["errors"] == []
    assert (await mutate(system, "resumeRun", runId=run_id, checkpointId=back["id"]))["errors"] == []
    run = await system.wait_for_end(run_id)
    assert (run["status"], run["output"]) == ("COMPLETED", 4)
    counted = [
        event["nodeState"]["status"]
        for event in run["events"]["nodes"]
        if "nodeState" in event and event["nodeState"]["nodeId"] == "count"
    ]
    assert counted.count("COMPLETED") == 4 + 2


async def test_a_pause_waits_for_the_running_node_and_a_resume_continues(system: SystemUnderTest) -> None:
    busy = "def process():\n    n = 0\n    for i in range(3000000):\n        n += 1\n    return n\n"
    spec = {
        "nodes": [
            {"id": "busy", "type": "code", "config": {"code": busy, "timeoutS": 30}},
            {"id": "end", "type": "end", "config": {"output": "{{ busy.output }}"}},
        ],
        "edges": [{"source": "busy", "target": "end"}],
    }
    run_id = (await system.run(spec, mode="ASYNC"))["run"]["id"]
    await system.wait_for_node(run_id, "busy", "RUNNING")
    payload = PAYLOAD + " checkpoint { id nextNodes state }"
    paused = await mutate(system, "pauseRun", payload, runId=run_id, timeoutMs=20_000)
    assert (paused["run"]["status"], paused["errors"]) == ("PAUSED", [])
    assert (paused["checkpoint"]["nextNodes"], paused["checkpoint"]["state"]) == (["end"], {"busy": 3_000_000})
    run = await system.read(run_id)
    assert {one["nodeId"]: one["status"] for one in run["nodeStates"]} == {"busy": "COMPLETED", "end": "IDLE"}
    resumed = await mutate(system, "resumeRun", runId=run_id, checkpointId=paused["checkpoint"]["id"])
    assert resumed["errors"] == []
    run = await system.wait_for_end(run_id)
    states = [event["nodeState"] for event in run["events"]["nodes"] if "nodeState" in event]
    assert run["output"] == 3_000_000
    assert [one["status"] for one in states if one["nodeId"] == "busy"].count("COMPLETED") == 1


async def test_expressions_see_the_last_node_of_a_completed_run(system: SystemUnderTest) -> None:
    wait = {"id": "wait", "type": "delay", "config": {"seconds": 0.01}}
    last = {"id": "last", "type": "code", "config": {"code": "def process():\n    return 7\n"}}
    spec = {"nodes": [wait, last], "edges": [{"source": "wait", "target": "last"}]}
    run_id = (await system.run(spec))["run"]["id"]
    query = """query ($id: ID!) { run(id: $id) { status checkpoints(first: 1) { nodes { nextNodes state
        evaluate(expression: "[wait.status, last.output, last.last_output]") { value errors { message } } } } } }"""
    run = (await system.execute(query, id=run_id))["run"]
    [checkpoint] = run["checkpoints"]["nodes"]
    assert (run["status"], checkpoint["nextNodes"]) == ("COMPLETED", [])
    assert checkpoint["state"]["last"] == 7
    assert checkpoint["evaluate"] == {"value": ["COMPLETED", 7, 7], "errors": []}
